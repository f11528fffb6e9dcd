"""The archive, nearest first, for each query: by distance, then in storage order."""

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from mhcln.hamming.codes import differing_bits, words

STEPS = np.float32(1 << 20)  # in a cosine distance of 1; sums of 2,048 products of float32 err by some 2**-22
BLOCK_CELLS = 1 << 20  # distances ranked at a time: a few arrays of this size fit the processor's cache levels

Distances = NDArray[np.unsignedinteger]
Rows = NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class Ranking:
    """The rankings of a block of queries.

    Attributes:
        queries: Which queries.
        order: `[q, n]` archive rows, nearest first.
        distances: `[q, n]`, in the same order.
    """

    queries: slice
    order: Rows
    distances: Distances


def by_hamming(queries: NDArray[np.uint8], archive: NDArray[np.uint8], exclude: Rows | None) -> Iterator[Ranking]:
    """Rank an archive of packed codes for each query, block by block.

    Args:
        queries: `[q, b] uint8`.
        archive: `[n, b] uint8`.
        exclude: `[q]` the archive row that is the query itself, left out of its ranking; None if no query is in it.

    Yields:
        The rankings of a block.
    """
    left, right = words(queries)[:, :, None], words(archive)[:, None]
    return _blocks(len(queries), len(archive), exclude, lambda block: differing_bits(left[:, block], right))


def by_cosine(queries: NDArray[np.float32], archive: NDArray[np.float32], exclude: Rows | None) -> Iterator[Ranking]:
    """Rank an archive of vectors by `1 - cosine` for each query, block by block.

    A vector of zeros is at distance 1 from everything.

    Args:
        queries: `[q, d] float32`.
        archive: `[n, d] float32`.
        exclude: As in `by_hamming`.

    Yields:
        The rankings of a block, with uint32 distances in steps of 2**-20: what float32 sums cannot tell apart is
        equal, and in storage order.
    """
    left, right = _unit(queries), _unit(archive)

    def distances(block: slice) -> NDArray[np.uint32]:
        return np.rint(np.maximum(1 - left[block] @ right.T, 0) * STEPS).astype(np.uint32)

    return _blocks(len(left), len(right), exclude, distances)


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.sqrt(np.einsum("nd,nd->n", vectors, vectors))[:, None]
    return vectors / np.where(lengths > 0, lengths, np.float32(1))


def _blocks(
    count: int, archive: int, exclude: Rows | None, distances: Callable[[slice], Distances]
) -> Iterator[Ranking]:
    step = max(1, BLOCK_CELLS // max(1, archive))
    for start in range(0, count, step):
        block = slice(start, min(start + step, count))
        near = distances(block)
        if exclude is None:
            yield Ranking(block, *_ranked(near))
            continue
        kept = np.ones(near.shape, bool)
        kept[np.arange(len(near)), exclude[block]] = False
        order, ranked = _ranked(near[kept].reshape(len(near), archive - 1))
        yield Ranking(block, order + (order >= exclude[block][:, None]), ranked)


def _ranked(near: Distances) -> tuple[Rows, Distances]:
    if near.dtype.itemsize <= 2:
        order = np.argsort(near, axis=1, kind="stable")  # a radix sort on 8 and 16 bits
        return order, np.take_along_axis(near, order, axis=1)
    # With the position below the distance every key differs, so that the fastest sort is a stable one.
    keys = (near.astype(np.uint64) << np.uint64(32)) | np.arange(near.shape[1], dtype=np.uint64)
    keys.sort(axis=1)
    return (keys & np.uint64(0xFFFFFFFF)).astype(np.int64), (keys >> np.uint64(32)).astype(np.uint32)
