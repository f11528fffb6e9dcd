"""Changes of a file's bytes that damage and attacks make: flips, cuts, insertions, splices, edited sizes."""

import random
import struct
from collections.abc import Callable

NUMBERS = (0, 1, 2, 7, 255, 256, 32767, 65535, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**64 - 1)
TEXTS = ("", "..", "/etc/passwd", "\u20ac", "a" * 5000, "=1+1", "\ud800", "\n", "nan", "%s", "conv2d")

Change = Callable[[random.Random, bytearray, bytes], None]


def flip(rng: random.Random, data: bytearray, _other: bytes) -> None:
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def replace_byte(rng: random.Random, data: bytearray, _other: bytes) -> None:
    data[rng.randrange(len(data))] = rng.choice((0, 255, rng.randrange(256)))


def cut_end(rng: random.Random, data: bytearray, _other: bytes) -> None:
    del data[rng.randrange(len(data)) :]


def remove(rng: random.Random, data: bytearray, _other: bytes) -> None:
    start = rng.randrange(len(data))
    del data[start : start + rng.randrange(1, 200)]


def insert(rng: random.Random, data: bytearray, _other: bytes) -> None:
    start = rng.randrange(len(data))
    data[start:start] = rng.randbytes(rng.randrange(1, 40))


def repeat(rng: random.Random, data: bytearray, _other: bytes) -> None:
    start = rng.randrange(len(data))
    piece = data[start : start + rng.randrange(1, 100)]
    data[start:start] = piece * rng.choice((1, 1, 2, 50))


def splice(rng: random.Random, data: bytearray, other: bytes) -> None:
    start, there = rng.randrange(len(data)), rng.randrange(len(other))
    length = rng.choice((rng.randrange(1, 64), len(other)))
    data[start : start + length] = other[there : there + length]


def edit_size(rng: random.Random, data: bytearray, _other: bytes) -> None:
    kind = rng.choice(("<B", "<H", ">H", "<I", ">I", "<Q", ">Q"))
    size = struct.calcsize(kind)
    if len(data) > size:
        number = rng.choice((*NUMBERS, len(data), len(data) - 1)) % 2 ** (8 * size)
        struct.pack_into(kind, data, rng.randrange(len(data) - size), number)


CHANGES: tuple[Change, ...] = (flip, flip, replace_byte, replace_byte, edit_size, edit_size, cut_end, remove, insert)
CHANGES += (repeat, splice)


def mutated(rng: random.Random, data: bytes, other: bytes) -> bytes:
    """Return the bytes with one to eight changes; `other` is a file that pieces are taken from."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        if changed:
            rng.choice(CHANGES)(rng, changed, other)
    return bytes(changed)
