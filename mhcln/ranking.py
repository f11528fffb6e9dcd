"""The archive in the order of nearness to each query: distance, then storage order."""

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from mhcln import hamming

STEPS = np.float32(1 << 20)  # of a cosine distance of 1; sums of 2,048 products of float32 err by some 2**-22
BLOCK_CELLS = 1 << 20  # distances ranked at a time: a few arrays of this size fit the processor's cache levels


@dataclasses.dataclass(frozen=True)
class Ranking:
    """A block of queries: `queries` is its slice, `order` [q, n] archive rows and `distances` [q, n], nearest first."""

    queries: slice
    order: NDArray[np.int64]
    distances: NDArray


def by_hamming(queries: NDArray[np.uint8], archive: NDArray[np.uint8], own: NDArray | None) -> Iterator[Ranking]:
    """Rank packed codes `archive` [n, b] for each of `queries` [q, b], block by block.

    `own` [q] is the archive row that is the query itself, left out of its ranking; None where no query is in it.
    """
    return _blocks(len(queries), len(archive), own, lambda block: hamming.distances(queries[block], archive))


def by_cosine(queries: NDArray[np.float32], archive: NDArray[np.float32], own: NDArray | None) -> Iterator[Ranking]:
    """Rank vectors `archive` [n, d] for each of `queries` [q, d] by `1 - cosine`, block by block; `own` as above.

    Distances are uint32, in steps of 2**-20: what float32 sums cannot tell apart is equal, and in storage order.
    A vector of zeros is at distance 1 from everything.
    """
    left, right = _unit(queries), _unit(archive)

    def distances(block: slice) -> NDArray[np.uint32]:
        return np.rint(np.maximum(1 - left[block] @ right.T, 0) * STEPS).astype(np.uint32)

    return _blocks(len(left), len(right), own, distances)


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.sqrt(np.einsum("nd,nd->n", vectors, vectors))[:, None]
    return vectors / np.where(lengths > 0, lengths, 1)


def _blocks(count: int, archive: int, own: NDArray | None, distances: Callable[[slice], NDArray]) -> Iterator[Ranking]:
    step = max(1, BLOCK_CELLS // max(1, archive))
    for start in range(0, count, step):
        block = slice(start, min(start + step, count))
        near = distances(block)
        if own is None:
            yield Ranking(block, *_ranked(near))
            continue
        rows = np.arange(len(near))
        kept = np.ones(near.shape, bool)
        kept[rows, own[block]] = False
        others = near[kept].reshape(len(near), archive - 1)
        order, ranked = _ranked(others)
        yield Ranking(block, order + (order >= own[block][:, None]), ranked)


def _ranked(near: NDArray) -> tuple[NDArray[np.int64], NDArray]:
    if near.dtype.itemsize <= 2:
        order = np.argsort(near, axis=1, kind="stable")  # a radix sort on 8 and 16 bits
        return order, np.take_along_axis(near, order, axis=1)
    # With the position below the distance every key differs, so that the fastest sort is a stable one.
    keys = (near.astype(np.uint64) << np.uint64(32)) | np.arange(near.shape[1], dtype=np.uint64)
    keys.sort(axis=1)
    return (keys & np.uint64(0xFFFFFFFF)).astype(np.int64), (keys >> np.uint64(32)).astype(np.uint32)
