"""The charts: ticks are round, points are where the axes say."""

import re

import pytest

from mhcln.reporting import svg
from mhcln.reporting.svg import Axis


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [(0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]), (0, 10_000, [0, 2000, 4000, 6000, 8000, 10000]), (-0.3, 0.2, None)],
)
def test_ticks_are_round_and_inside(low, high, ticks):
    found = Axis("", low, high).ticks()
    assert all(low - 1e-9 <= tick <= high + 1e-9 for tick in found)
    assert len(found) >= 3
    if ticks:
        assert found == pytest.approx(ticks)


def test_points_stand_where_the_axes_say():
    text = svg.curve("t", Axis("x", 0, 10), Axis("y", 0, 2), [(0, 0), (10, 2)], ["low", "high"])
    spots = [(float(x), float(y)) for x, y in re.findall(r'cx="([\d.]+)" cy="([\d.]+)"', text)]
    right, floor = svg.WIDTH - svg.RIGHT, svg.HEIGHT - svg.BOTTOM
    assert spots == [(svg.LEFT, floor), (right, svg.TOP)]


def test_constant_values_have_an_axis():
    for value in (0.0, 3.0, -2.0):
        axis = svg.axis_over([value, value])
        assert axis.low < value < axis.high
        assert axis.ticks()
