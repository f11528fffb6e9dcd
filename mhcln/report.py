"""Results and curves as one self-contained page: HTML, CSS and inline SVG, pictures by relative path, no script."""

import dataclasses
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from mhcln import charts, gallery
from mhcln.charts import Axis
from mhcln.gallery import Card
from mhcln.summary import figures

STYLE = Path(__file__).with_name("report.css")
HISTORY_NAMES = {
    "total": "Loss",
    "triplet": "Triplet term",
    "push": "Push term",
    "balance": "Balance term",
    "active": "Share of active triplets",
    "distinct_codes": "Distinct codes of the training images",
}
HISTORY_POINTS = 400  # a chart is 300 pixels wide


@dataclasses.dataclass(frozen=True)
class Page:
    """What the page shows: the content of `results.json`, and what is too large for it.

    `class_names` are those of the results, `display_names` those for people, in label order; `confusion` [c][c];
    `history` maps a column of `history.csv` to its values, empty where there is none.
    """

    results: dict[str, Any]
    class_names: Sequence[str]
    display_names: Sequence[str]
    confusion: Sequence[Sequence[float]]
    history: dict[str, list[float]]
    cards: Sequence[Card]


def render(page: Page) -> str:
    """The whole page. Texts that come from files, such as class names, are escaped."""
    results = page.results
    title = f"{results['dataset'] or 'Unknown data set'}, {results['bits']} bits"
    sections = {
        "figures": ("Figures", _figures(results)),
        "costs": ("What hashing costs", _costs(results)),
        "curve": ("Precision and recall by Hamming radius", _curve(results)),
        "classes": ("Classes", _classes(page)),
        "confusion": ("What is taken for what", _confusion(page)),
        "training": ("Training", _history(page.history)),
        "gallery": ("Queries, worst first", gallery.section(page.cards, page.display_names, results["k"])),
    }
    shown = {name: section for name, section in sections.items() if section[1]}
    links = "".join(f'<a href="#{name}">{heading}</a>' for name, (heading, _) in shown.items())
    body = "".join(
        f'<section id="{name}" aria-labelledby="{name}-head"><h2 id="{name}-head">{heading}</h2>{content}</section>'
        for name, (heading, content) in shown.items()
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>\n{STYLE.read_text(encoding='utf-8')}{gallery.rules(page.cards)}</style></head>\n"
        f"<body><header><h1>{escape(title)}</h1>{_lead(results)}{_stamp(results)}{_headline(results)}"
        f'<nav aria-label="Sections">{links}</nav></header>\n<main>{body}</main>\n{_setup(results)}</body></html>\n'
    )


def _lead(results: dict[str, Any]) -> str:
    where = {"test": "test", "train": "training", "all": "training and test"}[results["archive"]]
    text = f"Run {results['run']}: {results['queries']:,} test images, each compared with {results['searched']:,} "
    return f'<p class="setup">{escape(text)}{where} images by Hamming distance.{_left_out(results)}</p>'


def _left_out(results: dict[str, Any]) -> str:
    count = results["queries_left_out"]
    return f" {count:,} queries have no other image of their class to find and are in no mean." if count else ""


def _stamp(results: dict[str, Any]) -> str:
    return f'<p class="stamp" role="note">{escape(results["stamp"])}</p>' if results["stamp"] else ""


def _headline(results: dict[str, Any]) -> str:
    k = results["k"]
    chosen = {
        f"mAP@{k}": f"mAP@{k}, as published",
        f"mAP@{k}_tie_aware": f"mAP@{k}, expected over ties",
        "mAP": "mAP, whole ranking",
        f"P@{k}": f"Precision at {k}",
    }
    parts = [f"<div><dt>{text}</dt><dd>{_value(results[name])}</dd></div>" for name, text in chosen.items()]
    return f'<dl class="headline">{"".join(parts)}</dl>'


def _value(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}"


def _figures(results: dict[str, Any]) -> str:
    rows = [
        f'<tr><th scope="row">{escape(name)}</th><td class="n">{_value(results[name])}</td>'
        f"<td>{escape(results['definitions'][name])}</td></tr>"
        for name in figures(results["k"])
    ]
    head = '<tr><th scope="col">Figure</th><th scope="col" class="n">Value</th><th scope="col">Definition</th></tr>'
    return f'<table class="figures"><thead>{head}</thead><tbody>{"".join(rows)}</tbody></table>'


def _costs(results: dict[str, Any]) -> str:
    if len(results["costs"]) < 2:
        return ""
    k = results["k"]
    names = (f"mAP@{k}", f"mAP@{k}_min_denominator", f"mAP@{k}_tie_aware", "mAP", f"P@{k}")
    head = "".join(f'<th scope="col" class="n">{escape(name)}</th>' for name in ("Bytes per image", *names))
    rows = [
        f'<tr><th scope="row">{escape(row["what"].capitalize())}</th><td>{escape(row["stored"])}</td>'
        f'<td class="n">{row["bytes_per_image"]:,}</td>'
        + "".join(f'<td class="n">{row[name]:.4f}</td>' for name in names)
        + "</tr>"
        for row in results["costs"]
    ]
    return (
        f"<p>{escape(results['definitions']['costs'].capitalize())}.</p>"
        '<div class="scroll" tabindex="0" role="region" aria-label="What hashing costs"><table><thead><tr>'
        f'<th scope="col">Compared</th><th scope="col">Stored</th>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _curve(results: dict[str, Any]) -> str:
    precision, recall = results["precision_by_radius"], results["recall_by_radius"]
    names = [
        f"radius {radius}: precision {p:.3f}, recall {r:.3f}"
        for radius, (p, r) in enumerate(zip(precision, recall, strict=True))
    ]
    points = list(zip(recall, precision, strict=True))
    chart = charts.curve(
        "Precision against recall by Hamming radius", Axis("recall", 0, 1), Axis("precision", 0, 1), points, names
    )
    empty = results["empty_by_radius"]
    radii = [radius for radius in range(len(names)) if radius <= 10 or radius == len(names) - 1]
    rows = "".join(
        f'<tr><th scope="row" class="n">{radius}</th><td class="n">{precision[radius]:.4f}</td>'
        f'<td class="n">{recall[radius]:.4f}</td><td class="n">{empty[radius]:.4f}</td></tr>'
        for radius in radii
    )
    head = "".join(f'<th scope="col" class="n">{name}</th>' for name in ("Radius", "Precision", "Recall", "Empty"))
    return (
        "<p>Every image within a radius of the query is retrieved; one point for each radius from 0. A query whose "
        "ball is empty counts with precision 0, which is why the curve may begin low.</p>"
        f'<div class="side"><figure class="chart">{chart}</figure>'
        f"<div><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div></div>"
    )


def _classes(page: Page) -> str:
    found = page.results["per_class"]
    display = dict(zip(page.class_names, page.display_names, strict=True))
    rows = [
        f"<li><span>{escape(display[name])}</span>{charts.bar(value)}<b>{value:.4f}</b></li>"
        for name, value in sorted(found.items(), key=lambda item: item[1])
    ]
    k = page.results["k"]
    told = f"mAP@{k} (published definition) of the queries of each class, worst first."
    return f'<p>{told}</p><ul class="bars">{"".join(rows)}</ul>'


def _confusion(page: Page) -> str:
    k = page.results["k"]
    display = dict(zip(page.class_names, page.display_names, strict=True))
    pairs = "".join(
        f'<tr><th scope="row">{escape(display[pair["query"]])}</th><td>{escape(display[pair["found"]])}</td>'
        f'<td class="n">{pair["share"]:.1%}</td></tr>'
        for pair in page.results["confused_pairs"]
    )
    chart = charts.matrix("Share of each class in what was found", page.display_names, page.confusion)
    head = '<th scope="col">Query</th><th scope="col">Found</th><th scope="col" class="n">Share</th>'
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{pairs}</tbody></table>" if pairs else "<p>Nothing.</p>"
    return (
        f"<p>Share of each class (column) in the top {k} of the queries of a class (row): right ones on the diagonal, "
        "wrong ones beside it, the stronger the colour the more.</p>"
        '<div class="side"><div class="scroll" tabindex="0" role="region" aria-label="Confusion between classes">'
        f"{chart}</div><div><h3>The most confused</h3>{table}</div></div>"
    )


def _history(history: dict[str, list[float]]) -> str:
    iterations = history.get("iteration", [])
    if len(iterations) < 2:
        return ""
    step = -(-len(iterations) // HISTORY_POINTS)
    drawn = []
    for name, values in history.items():
        points = [(x, y) for x, y in zip(iterations[::step], values[::step], strict=True) if y == y]
        if name == "iteration" or len(points) < 2:
            continue
        axes = Axis("iteration", 0, points[-1][0], 4), charts.axis_over("", [y for _, y in points])
        heading = HISTORY_NAMES.get(name, name.replace("_", " "))
        drawn.append(f"<figure><h3>{escape(heading)}</h3>{charts.curve(heading, *axes, points)}</figure>")
    return f'<div class="charts">{"".join(drawn)}</div>'


def _setup(results: dict[str, Any]) -> str:
    names = (
        *("extractor", "split_rule", "split_ratio", "split_seed", "contaminated", "loss", "alpha", "batch_size"),
        *("iterations", "seed", "precision", "training_seconds", "tensorflow", "device", "codes_sha256"),
    )
    rows = "".join(
        f"<dt>{name.replace('_', ' ')}</dt><dd>{escape(str(results[name]))}</dd>"
        for name in names
        if results.get(name) is not None
    )
    return f"<footer><h2>Set-up</h2><dl>{rows}</dl></footer>\n"
