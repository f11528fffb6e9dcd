"""A chart of many lines with their deviations, as a picture in SVG."""

from collections.abc import Mapping, Sequence
from html import escape

from mhcln.reporting.svg import BOTTOM, HEIGHT, LEFT, LETTER, RIGHT, TOP, WIDTH, Axis, axes, chart, path, x_of, y_of

LINE = 13  # height of a line of text
COLOURS = (  # of lines, on white, for people of usual colour blindness too, as far as eight can be (Okabe and Ito)
    *("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000", "#7f7f7f"),
)
Points = Sequence[tuple[float, float, float]]  # x, mean and deviation, left to right


def lines(title: str, x_name: str, shown: Mapping[str, Points], low: float) -> str:
    """Return a chart of lines with bands of a deviation, as a picture of its own.

    The name of a line is to the right of its end, in its colour; names are moved apart where they would overlap. Lines
    beyond the eighth are dashed, in the colours of the first.

    Args:
        title: Name of the chart, for screen readers.
        x_name: Label of the horizontal axis.
        shown: The points of each line, by its name.
        low: Where the vertical axis begins; what is below is cut off.
    """
    points = [point for line in shown.values() for point in line]
    x = Axis(x_name, min(point[0] for point in points), max(point[0] for point in points))
    y = Axis("", low, max(mean + deviation for _, mean, deviation in points))
    ends = sorted((min(y_of(y, line[-1][1]), HEIGHT - BOTTOM), name) for name, line in shown.items())
    places = dict(zip([name for _, name in ends], _apart([end for end, _ in ends]), strict=True))
    inside, beside = [], [axes(x, y)]
    for number, (name, line) in enumerate(shown.items()):
        colour = COLOURS[number % len(COLOURS)]
        upper = [(x_of(x, a), y_of(y, mean + deviation)) for a, mean, deviation in line]
        lower = [(x_of(x, a), y_of(y, mean - deviation)) for a, mean, deviation in reversed(line)]
        middle = [(x_of(x, a), y_of(y, mean)) for a, mean, _ in line]
        dashes = ' stroke-dasharray="4 3"' if number >= len(COLOURS) else ""
        end, place = min(middle[-1][1], HEIGHT - BOTTOM), places[name]
        inside.append(f'<path fill="{colour}" fill-opacity="0.08" d="{path([*upper, *lower])}Z"/>')
        inside.append(f'<path fill="none" stroke="{colour}" stroke-width="1.6"{dashes} d="{path(middle)}"/>')
        beside.append(f'<path stroke="{colour}" d="M{middle[-1][0]:.1f} {end:.1f}L{WIDTH - 2} {place:.1f}"/>')
        beside.append(f'<text style="fill:{colour}" x="{WIDTH}" y="{place + 4:.1f}">{escape(name)}</text>')
    width = WIDTH + int(max(map(len, shown)) * LETTER) + 8
    height = max(HEIGHT, int(max(places.values())) + 12)
    style = "<style>text{font:11px sans-serif;fill:#555}.grid{stroke:#ddd}path{stroke-linejoin:round}</style>"
    box = f"{LEFT} {TOP} {WIDTH - LEFT - RIGHT} {HEIGHT - TOP - BOTTOM}"  # a picture within, which cuts off
    left, top, right, bottom = box.split()
    plot = f'<svg x="{left}" y="{top}" width="{right}" height="{bottom}" viewBox="{box}">{"".join(inside)}</svg>'
    body = f'{style}<rect width="{width}" height="{height}" fill="#fff"/>{"".join(beside)}{plot}'
    return chart(title, width, height, body, fixed=True).replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)


def _apart(places: Sequence[float]) -> list[float]:
    """Move rising places down until each is a line of text below the one before, all as near the top as they can be."""
    moved: list[float] = []
    for place in places:
        moved.append(max(place, moved[-1] + LINE if moved else place))
    excess = max(0.0, moved[-1] - (HEIGHT - BOTTOM)) if moved else 0.0
    for number in reversed(range(len(moved))):  # those at the end give way upwards as far as there is room
        limit = moved[number + 1] - LINE if number + 1 < len(moved) else moved[number] - excess
        moved[number] = max(min(moved[number], limit), TOP + number * LINE)
    return moved
