"""The results of a run as one self-contained page: HTML, CSS and inline SVG, pictures by relative path, no script."""

import dataclasses
import functools
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path

from mhcln.evaluation.definitions import (
    FULL_MAP,
    MIN_DENOMINATOR_MAP,
    PRECISION,
    PUBLISHED_MAP,
    TIE_AWARE_MAP,
    metric_names,
)
from mhcln.reporting import cards, summary, svg
from mhcln.reporting.cards import Card
from mhcln.reporting.svg import Axis
from mhcln.storage import layout
from mhcln.storage.results import Results

STYLE = Path(__file__).with_name("page.css")
HEADLINE = {
    PUBLISHED_MAP: "mAP@{k}, as published",
    TIE_AWARE_MAP: "mAP@{k}, expected over ties",
    FULL_MAP: "mAP, whole ranking",
    PRECISION: "Precision at {k}",
}
COST_METRICS = (PUBLISHED_MAP, MIN_DENOMINATOR_MAP, TIE_AWARE_MAP, FULL_MAP, PRECISION)
HISTORY_NAMES = {
    "total": "Loss",
    "triplet": "Triplet term",
    "push": "Push term",
    "balance": "Balance term",
    "active": "Share of active triplets",
    "accuracy": "Accuracy of the batches",
    "distinct_codes": "Distinct codes of the training images",
    "validation_mAP@20": "mAP@20 of the validation images",
}
HISTORY_POINTS = 400  # a chart is 300 pixels wide
_LINK_PLACE = "<!-- browse -->"
RADII = 10  # the table of radii has 0 to 10, and the largest
SETUP = (  # keys of results.json
    *("extractor", "split_rule", "split_ratio", "split_seed", "contaminated", "train_test_duplicates"),
    *("training_views", "loss", "alpha", "batch_size"),
    *("iterations", "iterations_done", "seed", "precision", "training_seconds", "tensorflow", "device", "codes_sha256"),
)

_number = functools.partial(summary.number, missing="–", separator=",")


@dataclasses.dataclass(frozen=True)
class Page:
    """Content of the page.

    Attributes:
        results: The evaluation.
        class_names: Names of the classes in the results, in label order.
        display_names: Their names for people.
        confusion: `[c][c]`, share of each class (column) in the neighbours of queries of a class (row).
        history: Columns of `history.csv`, NaN for an empty cell; empty if there is no history.
        cards: Pictures of queries.
    """

    results: Results
    class_names: Sequence[str]
    display_names: Sequence[str]
    confusion: Sequence[Sequence[float]]
    history: Mapping[str, Sequence[float]]
    cards: Sequence[Card]

    @property
    def display(self) -> dict[str, str]:
        """The name for people of each class of the results."""
        return dict(zip(self.class_names, self.display_names, strict=True))


def render(page: Page) -> str:
    """Return the page as HTML. Texts that come from files, such as class names, are escaped."""
    results = page.results
    title = escape(f"{results.inputs.dataset or 'Unknown data set'}, {results.bits} bits")
    sections = (
        ("gallery", "Queries, worst first", cards.gallery(page.cards, page.display_names, results.k)),
        ("figures", "Figures", _metrics(results)),
        ("costs", "What hashing costs", _costs(results)),
        ("curve", "Precision and recall by Hamming radius", _curve(results)),
        ("classes", "Classes", _classes(page)),
        ("confusion", "What is taken for what", _confusion(page)),
        ("training", "Training", _history(page.history)),
    )
    links = "".join(f'<a href="#{name}">{heading}</a>' for name, heading, content in sections if content)
    links += _LINK_PLACE
    body = "".join(
        f'<section id="{name}" aria-labelledby="{name}-head"><h2 id="{name}-head">{heading}</h2>{content}</section>'
        for name, heading, content in sections
        if content
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>\n{STYLE.read_text(encoding='utf-8')}{cards.filter_rules(page.cards)}</style></head>\n"
        f'<body><header><h1>{title}</h1>{_lead(results)}<nav aria-label="Sections">{links}</nav></header>\n'
        f"<main>{body}</main>\n{_setup(results)}</body></html>\n"
    )


def with_link(text: str) -> str:
    """Return a rendered page with a link to the page of `--browse`."""
    place = f"{layout.BROWSE}/{layout.BROWSE_PAGE}"
    return text.replace(_LINK_PLACE, f'<a href="{place}">Browse the archive</a>')


def _table(columns: str, head: Sequence[str], rows: Iterable[Sequence[str]], attributes: str = "") -> str:
    """Return a table whose first column names the rows.

    Args:
        columns: "l" for each column of text, "r" for each of numbers, which are aligned to the right.
        head: Headings of the columns.
        rows: Texts of the cells.
        attributes: Further attributes of the table, as HTML.
    """
    marks = [' class="n"' if column == "r" else "" for column in columns]
    top = "".join(f'<th scope="col"{mark}>{escape(text)}</th>' for mark, text in zip(marks, head, strict=True))
    body = []
    for name, *cells in rows:
        rest = "".join(f"<td{mark}>{escape(text)}</td>" for mark, text in zip(marks[1:], cells, strict=True))
        body.append(f'<tr><th scope="row"{marks[0]}>{escape(name)}</th>{rest}</tr>')
    return f"<table{attributes}><thead><tr>{top}</tr></thead><tbody>{''.join(body)}</tbody></table>"


def _scrolling(label: str, content: str) -> str:
    return f'<div class="scroll" tabindex="0" role="region" aria-label="{label}">{content}</div>'


def _lead(results: Results) -> str:
    text = (
        f"Run {results.run}: {results.queries:,} test images, each compared with {results.searched:,} "
        f"{summary.ARCHIVE_NAMES[results.archive]} images by Hamming distance."
    )
    if results.queries_left_out:
        text += f" {results.queries_left_out:,} queries have no other image of their class to find and are in no mean."
    stamp = f'<p class="stamp" role="note">{escape(results.stamp)}</p>' if results.stamp else ""
    k = results.k
    headline = "".join(
        f"<div><dt>{name.format(k=k)}</dt><dd>{_number(results.metrics[metric.key(k)])}</dd></div>"
        for metric, name in HEADLINE.items()
    )
    return f'<p class="setup">{escape(text)}</p>{stamp}<dl class="headline">{headline}</dl>'


def _metrics(results: Results) -> str:
    rows = [(name, _number(results.metrics[name]), results.definitions[name]) for name in metric_names(results.k)]
    return _table("lrl", ("Figure", "Value", "Definition"), rows, ' class="figures"')


def _costs(results: Results) -> str:
    if len(results.costs) < 2:
        return ""
    names = [metric.key(results.k) for metric in COST_METRICS]
    rows = []
    for cost in results.costs:
        numbers = (cost.bytes_per_image, *(cost.metrics[name] for name in names))
        rows.append((cost.what.capitalize(), cost.stored, *map(_number, numbers)))
    table = _table("llr" + "r" * len(names), ("Compared", "Stored", "Bytes per image", *names), rows)
    definition = escape(results.definitions["costs"].capitalize())
    return f"<p>{definition}.</p>{_scrolling('What hashing costs', table)}"


def _curve(results: Results) -> str:
    precision, recall, empty = results.precision_by_radius, results.recall_by_radius, results.empty_by_radius
    names = [
        f"radius {radius}: precision {p:.3f}, recall {r:.3f}"
        for radius, (p, r) in enumerate(zip(precision, recall, strict=True))
    ]
    title = "Precision against recall by Hamming radius"
    points = list(zip(recall, precision, strict=True))
    chart = svg.curve(title, Axis("recall", 0, 1), Axis("precision", 0, 1), points, names)
    last = len(names) - 1
    rows = [
        (f"{radius}", *(f"{values[radius]:.4f}" for values in (precision, recall, empty)))
        for radius in range(last + 1)
        if radius <= RADII or radius == last
    ]
    return (
        "<p>Every image within a radius of the query is retrieved; one point for each radius from 0. A query with no "
        "image within the radius counts with precision 0, which is why the curve may begin low.</p>"
        f'<div class="side"><figure class="chart">{chart}</figure>'
        f"<div>{_table('rrrr', ('Radius', 'Precision', 'Recall', 'Empty'), rows)}</div></div>"
    )


def _classes(page: Page) -> str:
    rows = "".join(
        f"<li><span>{escape(page.display[name])}</span>{svg.bar(value)}<b>{value:.4f}</b></li>"
        for name, value in sorted(page.results.per_class.items(), key=lambda item: item[1])
    )
    text = f"mAP@{page.results.k} (published definition) of the queries of each class, worst first."
    return f'<p>{text}</p><ul class="bars">{rows}</ul>'


def _confusion(page: Page) -> str:
    display = page.display
    rows = [(display[pair.query], display[pair.found], f"{pair.share:.1%}") for pair in page.results.confused_pairs]
    table = _table("llr", ("Query", "Found", "Share"), rows) if rows else "<p>Nothing.</p>"
    chart = svg.matrix("Share of each class in what was found", page.display_names, page.confusion)
    return (
        f"<p>Share of each class (column) in the top {page.results.k} of the queries of a class (row): right ones on "
        "the diagonal, wrong ones off it. A stronger colour means a larger share.</p>"
        f'<div class="side">{_scrolling("Confusion between classes", chart)}'
        f"<div><h3>The most confused</h3>{table}</div></div>"
    )


def _history(history: Mapping[str, Sequence[float]]) -> str:
    iterations = history.get("iteration", [])
    if len(iterations) < 2:
        return ""
    step = -(-len(iterations) // HISTORY_POINTS)
    charts = []
    for name, values in history.items():
        # NaN, which an empty cell is, does not equal itself
        points = [(x, y) for x, y in zip(iterations[::step], values[::step], strict=True) if y == y]
        if name == "iteration" or len(points) < 2:
            continue
        heading = HISTORY_NAMES.get(name, name.replace("_", " "))
        axes = Axis("iteration", 0, points[-1][0], 4), svg.axis_over([y for _, y in points])
        charts.append(f"<figure><h3>{escape(heading)}</h3>{svg.curve(heading, *axes, points)}</figure>")
    return f'<div class="charts">{"".join(charts)}</div>'


def _setup(results: Results) -> str:
    content = results.to_json()
    rows = "".join(
        f"<dt>{name.replace('_', ' ')}</dt><dd>{escape(str(content[name]))}</dd>"
        for name in SETUP
        if content[name] is not None
    )
    return f"<footer><h2>Set-up</h2><dl>{rows}</dl></footer>\n"
