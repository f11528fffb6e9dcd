"""Average precision by loops in exact arithmetic, and every order that ties allow."""

import itertools
from fractions import Fraction

import numpy as np


def relevance(signs: str) -> np.ndarray:
    """`[1, n]` relevance of one query: "+-+" is relevant, not, relevant."""
    return np.array([[sign == "+" for sign in signs]])


def published(top) -> Fraction:
    """The published evaluator's loop (UCMD/eval.py:64-77)."""
    hits, total = 0, Fraction(0)
    for rank, relevant in enumerate(top, start=1):
        if relevant:
            hits += 1
            total += Fraction(hits, rank)
    return total / hits if hits else Fraction(0)


def precision_sum(top) -> Fraction:
    return sum((Fraction(sum(top[: i + 1]), i + 1) for i in range(len(top)) if top[i]), Fraction(0))


def orders(relevant, distances):
    """Every ranking that the distances allow, as tuples of relevance."""
    pools = [
        [bool(r) for r, d in zip(relevant, distances, strict=True) if d == level] for level in sorted(set(distances))
    ]
    for chosen in itertools.product(*(list(itertools.permutations(pool)) for pool in pools)):
        yield tuple(itertools.chain.from_iterable(chosen))
