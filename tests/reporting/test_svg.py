"""The charts: ticks are round, points stand where the axes say."""

import itertools
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


def test_lines_have_bands_and_names_that_do_not_overlap():
    shown = [svg.Line(f"method {n}", [(16, 0.9, 0.01), (64, 0.95 + n * 1e-4, 0.002)]) for n in range(10)]
    text = svg.lines("t", "bits", shown, 0.92)
    places = sorted(float(y) for y in re.findall(r'y="([\d.]+)">method', text))
    assert len(places) == 10
    assert all(after - before >= svg.LINE - 0.2 for before, after in itertools.pairwise(places))
    assert text.startswith('<svg xmlns="http://www.w3.org/2000/svg"')
    assert text.count("stroke-dasharray") == 10 - len(svg.COLOURS)
    assert text.count("fill-opacity") == 10
    plot = text[text.index("<svg x=") :]  # which cuts off what is below 0.92, such as the first points
    assert float(re.search(r'stroke-width="1.6" d="M44.0 ([\d.]+)L', plot)[1]) > svg.HEIGHT - svg.BOTTOM
