"""The page needs nothing from outside, shows what the results say, and works in a real browser."""

import html
import re
from html.parser import HTMLParser

import factories
import pytest
from PIL import Image

from mhcln.evaluation.definitions import definitions, metric_names
from mhcln.reporting import page
from mhcln.reporting.cards import Card
from mhcln.reporting.page import Page
from mhcln.storage.results import ConfusedPair

NASTY = '<script>alert("x")</script>'


def made_page(**changes) -> Page:
    """A page of the results of `factories.results(**changes["results"])`."""
    cards = [
        Card(9, "hamming_out/sample_9.png", 0, 0.9, 18, (20, 10)),
        Card(19, "hamming_out/sample_19.png", 1, 0.1, 2, (20, 10)),
        Card(29, "hamming_out/sample_29.png", 1, 0.5, 9, (20, 10)),
    ]
    values = {
        "class_names": ["a", "b"],
        "display_names": ["Class A", "Class B"],
        "confusion": [[1, 0], [0.125, 0.875]],
        "history": {"iteration": [100, 200, 300], "total": [0.3, 0.2, 0.1], "distinct_codes": [3, 4, 4]},
        "cards": cards,
        **changes,
    }
    return Page(**{**values, "results": factories.results(**changes.get("results", {}))})


class Reader(HTMLParser):
    """Collects tags and checks that each is closed."""

    EMPTY = frozenset(("meta", "img", "br", "input"))

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict]] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def all(self, tag: str) -> list[dict]:
        return [attrs for name, attrs in self.tags if name == tag]


def test_shows_every_metric_with_its_definition():
    text = page.render(made_page())
    for name in metric_names(20):
        assert f">{name}</th>" in text
        assert html.escape(definitions(20)[name]) in text
    for shown in ("0.9000", "1,312", "–", "8,192", "12.5%", "Class B", "<dt>seed</dt><dd>7</dd>"):
        assert shown in text


def test_needs_nothing_from_outside():
    text = page.render(made_page())
    reader = Reader(text)
    assert not re.search(r"https?:|url\(|@import|<script|<link", text)
    sources = [image["src"] for image in reader.all("img")]
    assert sources == [f"hamming_out/sample_{index}.png" for index in (19, 29, 9)]  # the worst query comes first
    targets = [link["href"] for link in reader.all("a")]
    ids = {attrs["id"] for _, attrs in reader.tags if "id" in attrs}
    assert all(target in sources or target.removeprefix("#") in ids for target in targets)


def test_the_page_that_browses_is_linked_if_it_is_there():
    text = page.render(made_page())
    assert "browse" not in " ".join(link["href"] for link in Reader(text).all("a"))
    assert "browse/index.html" in [link["href"] for link in Reader(page.with_link(text)).all("a")]
    assert page.with_link(page.with_link(text)) == page.with_link(text)


def test_the_filter_has_a_choice_and_a_rule_for_each_class_that_is_there():
    reader = Reader(page.render(made_page(cards=made_page().cards[1:])))
    assert [choice["id"] for choice in reader.all("input")] == ["class-all", "class-1"]
    assert "#class-1:checked) .gallery li:not(.class-1)" in page.render(made_page())


def test_says_what_is_contaminated_and_what_was_left_out():
    text = page.render(made_page(results={"stamp": "CONTAMINATED: 7 of 12", "queries_left_out": 3}))
    assert 'class="stamp" role="note">CONTAMINATED: 7 of 12' in text
    assert "3 queries have no other image" in text
    assert "stamp" not in page.render(made_page()).partition("</style>")[2]


def test_hostile_names_stay_text():
    changed = {"dataset": NASTY, "run": NASTY, "extractor": NASTY, "stamp": NASTY, "per_class": {NASTY: 0.5}}
    pairs = {"confused_pairs": [ConfusedPair(NASTY, NASTY, 0.5)]}
    text = page.render(made_page(results={**changed, **pairs}, class_names=[NASTY, "b"], display_names=[NASTY, NASTY]))
    assert "<script" not in text
    Reader(text)


@pytest.mark.parametrize(
    "changes",
    [
        {"history": {}, "cards": []},
        {"history": {"iteration": [100], "total": [0.1]}},
        {"results": {"costs": [], "confused_pairs": [], "dataset": None}},
        {"history": {"iteration": [1, 2, 3], "total": [float("nan")] * 3, "push": [0.0, 0.0, 0.0]}},
    ],
)
def test_what_is_absent_is_left_out(changes):
    text = page.render(made_page(**changes))
    Reader(text)
    assert "nan" not in text.partition("</style>")[2]


def test_every_column_of_a_history_has_a_heading_and_a_long_one_is_thinned():
    many = [1 / x for x in range(1, 100_000)]
    columns = {"iteration": list(range(1, 100_000)), "accuracy": many, "validation_mAP@20": many, "own_term": many}
    text = page.render(made_page(history=columns))
    for heading in ("Accuracy of the batches", "mAP@20 of the validation images", "own term"):
        assert f"<h3>{heading}</h3>" in text
    assert len(text) < len(page.render(made_page())) + 20_000


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_works_in_a_browser_on_a_phone(tmp_path, visit, scheme):
    (tmp_path / "hamming_out").mkdir()
    for index in (9, 19, 29):
        Image.new("RGB", (712, 676), "green").save(tmp_path / f"hamming_out/sample_{index}.png")
    names = {"display_names": ["Class A", "A class with a rather long name, as they come"]}
    (tmp_path / "report.html").write_text(page.render(made_page(results={"stamp": "CONTAMINATED: some"}, **names)))
    options = {"viewport": {"width": 390, "height": 800}, "color_scheme": scheme}
    seen = visit((tmp_path / "report.html").as_uri(), **options)
    assert seen.evaluate("document.documentElement.scrollWidth") <= 390
    paper = "rgb(19, 20, 22)" if scheme == "dark" else "rgb(251, 250, 248)"
    assert seen.evaluate("getComputedStyle(document.body).backgroundColor") == paper
    shown = "all => all.filter(e => e.offsetParent).map(e => e.className)"
    assert seen.eval_on_selector_all(".gallery li", shown) == ["class-1", "class-1", "class-0"]
    seen.locator(".gallery img").last.scroll_into_view_if_needed()
    seen.wait_for_function("[...document.images].every(image => image.naturalWidth === 712)")
    seen.focus("#class-all")
    seen.keyboard.press("ArrowRight")
    seen.keyboard.press("ArrowRight")
    assert seen.eval_on_selector("#class-1 + span", "e => getComputedStyle(e).outlineStyle") == "solid"
    assert seen.eval_on_selector_all(".gallery li", shown) == ["class-1", "class-1"]
