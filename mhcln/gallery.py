"""The pictures of a report: a choice of classes and a card for each query, in HTML that needs no script."""

import dataclasses
from collections.abc import Sequence
from html import escape


@dataclasses.dataclass(frozen=True)
class Card:
    """A picture of the gallery: query `index` of class `label`, its file, its average precision, right ones of k."""

    index: int
    picture: str
    label: int
    average_precision: float
    right: int
    size: tuple[int, int]


def rules(cards: Sequence[Card]) -> str:
    """Style rules that hide the other classes where one is chosen."""
    labels = sorted({card.label for card in cards})
    return "".join(f"#gallery:has(#class-{n}:checked) .gallery li:not(.class-{n}){{display:none}}\n" for n in labels)


def section(cards: Sequence[Card], names: Sequence[str], k: int) -> str:
    """The choice of classes, then the cards, worst first; `names` are those of the classes for people."""
    if not cards:
        return "<p>No pictures were drawn; eval.py draws them with --interval=10.</p>"
    counts: dict[int, int] = {}
    for card in cards:
        counts[card.label] = counts.get(card.label, 0) + 1
    choices = [("class-all", "All", len(cards))]
    choices += [(f"class-{label}", names[label], counts[label]) for label in sorted(counts)]
    radios = "".join(
        f'<label><input type="radio" name="class" id="{name}"{" checked" if name == "class-all" else ""}>'
        f"<span>{escape(text)} ({count})</span></label>"
        for name, text, count in choices
    )
    ordered = sorted(cards, key=lambda card: (card.average_precision, card.index))
    shown = "".join(_card(card, names[card.label], k) for card in ordered)
    return (
        "<p>The query has a blue frame, wrong neighbours have a red one. Select a picture to see it large.</p>"
        f'<fieldset class="filter"><legend>Class of the query</legend>{radios}</fieldset>'
        f'<ul class="gallery">{shown}</ul>'
    )


def _card(card: Card, name: str, k: int) -> str:
    told = f"Query {card.index}, {name}: {card.right} of {k} neighbours are right"
    width, height = card.size
    return (
        f'<li class="class-{card.label}"><a href="{escape(card.picture)}"><img src="{escape(card.picture)}" '
        f'alt="{escape(told)}" width="{width}" height="{height}" loading="lazy"></a>'
        f'<p><strong>{escape(name)}</strong> <span class="soft">query {card.index}</span><br>'
        f"AP@{k} {card.average_precision:.3f}, {card.right} of {k} right</p></li>"
    )
