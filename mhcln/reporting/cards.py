"""The pictures of the page: a choice of classes and a card for each query, in HTML that needs no script."""

import collections
import dataclasses
from collections.abc import Sequence
from html import escape


@dataclasses.dataclass(frozen=True)
class Card:
    """The picture of a query and its neighbours.

    Attributes:
        index: Number of the query among the test images.
        picture: Path of the picture, relative to the page.
        label: Class of the query.
        average_precision: Published average precision at k.
        right: Number of the k neighbours that are of its class.
        size: Width and height of the picture.
    """

    index: int
    picture: str
    label: int
    average_precision: float
    right: int
    size: tuple[int, int]


def filter_rules(cards: Sequence[Card]) -> str:
    """Return style rules that hide the cards of the other classes if one is chosen."""
    labels = sorted({card.label for card in cards})
    return "".join(f"#gallery:has(#class-{n}:checked) .gallery li:not(.class-{n}){{display:none}}\n" for n in labels)


def gallery(cards: Sequence[Card], class_names: Sequence[str], k: int) -> str:
    """Return a choice of classes, then the cards, worst first.

    Args:
        cards: The pictures, in any order.
        class_names: Names of the classes for people, in label order.
        k: The cut-off.
    """
    if not cards:
        return "<p>No pictures were drawn; eval.py draws them with --interval=10.</p>"
    counts = collections.Counter(card.label for card in cards)
    choices = [("class-all", "All", len(cards))]
    choices += [(f"class-{label}", class_names[label], counts[label]) for label in sorted(counts)]
    radios = "".join(
        f'<label><input type="radio" name="class" id="{name}"{" checked" if name == "class-all" else ""}>'
        f"<span>{escape(text)} ({count})</span></label>"
        for name, text, count in choices
    )
    ordered = sorted(cards, key=lambda card: (card.average_precision, card.index))
    items = "".join(_card(card, class_names[card.label], k) for card in ordered)
    return (
        "<p>The query has a blue frame, wrong neighbours have a red one. Select a picture to see it large.</p>"
        f'<fieldset class="filter"><legend>Class of the query</legend>{radios}</fieldset>'
        f'<ul class="gallery">{items}</ul>'
    )


def _card(card: Card, name: str, k: int) -> str:
    name, picture = escape(name), escape(card.picture)
    width, height = card.size
    return (
        f'<li class="class-{card.label}"><a href="{picture}"><img src="{picture}" '
        f'alt="Query {card.index}, {name}: {card.right} of {k} neighbours are right" '
        f'width="{width}" height="{height}" loading="lazy"></a>'
        f'<p><strong>{name}</strong> <span class="soft">query {card.index}</span><br>'
        f"AP@{k} {card.average_precision:.3f}, {card.right} of {k} right</p></li>"
    )
