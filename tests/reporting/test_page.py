"""The page needs nothing from outside, shows what the results say, and works in a real browser."""

import html
import json
import re
import subprocess
from html.parser import HTMLParser

import factories
import pytest
from PIL import Image

from mhcln.evaluation.definitions import definitions, metric_names
from mhcln.reporting import page
from mhcln.reporting.cards import Card
from mhcln.reporting.page import Page

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
    Reader(text)
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
    assert sorted(sources) == [f"hamming_out/sample_{index}.png" for index in (19, 29, 9)]
    targets = [link["href"] for link in reader.all("a")]
    ids = {attrs["id"] for _, attrs in reader.tags if "id" in attrs}
    assert all(target in sources or target.removeprefix("#") in ids for target in targets)


def test_pictures_come_first_and_the_page_that_browses_is_linked_if_it_is_there():
    text = page.render(made_page())
    assert re.findall(r'<section id="(\w+)"', text)[:2] == ["gallery", "figures"]
    assert "browse" not in " ".join(link["href"] for link in Reader(text).all("a"))
    assert Reader(page.with_link(text)).all("a")[-4]["href"] == "browse/index.html"
    assert page.with_link(page.with_link(text)) == page.with_link(text)


def test_the_worst_query_comes_first():
    text = page.render(made_page())
    assert re.findall(r"query (\d+)</span>", text) == ["19", "29", "9"]


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
    pairs = {"confused_pairs": [{"query": NASTY, "found": NASTY, "share": 0.5}]}
    text = page.render(made_page(results={**changed, **pairs}, class_names=[NASTY, "b"], display_names=[NASTY, NASTY]))
    assert "<script" not in text
    Reader(text)


@pytest.mark.parametrize(
    "changes",
    [
        {"history": {}},
        {"history": {"iteration": [100], "total": [0.1]}},
        {"cards": []},
        {"results": {"costs": [], "confused_pairs": [], "dataset": None}},
        {"history": {"iteration": [1, 2, 3], "total": [float("nan")] * 3, "push": [0.0, 0.0, 0.0]}},
    ],
)
def test_what_is_absent_is_left_out(changes):
    text = page.render(made_page(**changes))
    Reader(text)
    assert "nan" not in text.partition("</style>")[2]


def test_every_column_of_a_history_has_a_heading():
    columns = {"iteration": [1, 2], "accuracy": [0.5, 0.6], "validation_mAP@20": [0.7, 0.8], "own_term": [1, 2]}
    text = page.render(made_page(history=columns))
    for heading in ("Accuracy of the batches", "mAP@20 of the held-back images", "own term"):
        assert f"<h3>{heading}</h3>" in text


def test_long_histories_are_thinned():
    many = {"iteration": list(range(100_000)), "total": [1 / (1 + x) for x in range(100_000)]}
    assert len(page.render(made_page(history=many))) < len(page.render(made_page())) + 20_000


def luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_text_has_contrast_in_both_themes():
    themes = re.findall(r":root \{(.*?)\}", page.STYLE.read_text(), re.DOTALL)
    assert len(themes) == 2
    for theme in themes:
        colours = dict(re.findall(r"--(\w+): (#\w{6})", theme))
        for text, ground in [("ink", "paper"), ("ink", "card"), ("soft", "paper"), ("soft", "card"), ("ink", "warn")]:
            light, dark = sorted((luminance(colours[text]), luminance(colours[ground])), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (text, ground)
        light, dark = sorted((luminance(colours["accent"]), luminance(colours["paper"])), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5


# Runs inside the page: what a person would see and do, sent to the page around it.
PROBE = """<script>
addEventListener("load", () => {
  const visible = () => [...document.querySelectorAll(".gallery li")].filter(e => e.offsetParent).map(e => e.className);
  const images = [...document.images];
  const seen = {width: innerWidth, scroll: document.documentElement.scrollWidth, all: visible(),
    images: images.map(image => image.naturalWidth), paper: getComputedStyle(document.body).backgroundColor,
    dark: matchMedia("(prefers-color-scheme: dark)").matches};
  const choice = document.getElementById("class-1");
  choice.focus();
  seen.focused = document.activeElement.id;
  seen.outline = getComputedStyle(choice.nextElementSibling).outlineStyle;
  choice.click();
  seen.filtered = visible();
  parent.postMessage(seen, "*");
});
</script>"""
AROUND = """<body><script>
addEventListener("message", event => { document.body.textContent = "SE" + "EN" + JSON.stringify(event.data) + "END"; });
</script><iframe src="probed.html" style="width:390px;height:800px;border:0"></iframe></body>"""


@pytest.mark.parametrize("dark", [False, True])
def test_works_in_a_browser_on_a_phone(tmp_path, dark, chromium):
    (tmp_path / "hamming_out").mkdir()
    for index in (9, 19, 29):
        Image.new("RGB", (712, 676), "green").save(tmp_path / f"hamming_out/sample_{index}.png")
    names = {"display_names": ["Class A", "A class with a rather long name, as they come"]}
    text = page.render(made_page(results={"stamp": "CONTAMINATED: some"}, **names))
    (tmp_path / "probed.html").write_text(text.replace(' loading="lazy"', "").replace("</body>", PROBE + "</body>"))
    (tmp_path / "around.html").write_text(AROUND)
    command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"]
    command += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=10000"]
    command += ["--blink-settings=preferredColorScheme=0"] * dark
    done = subprocess.run(
        [*command, "--dump-dom", (tmp_path / "around.html").as_uri()], capture_output=True, text=True, timeout=120
    )
    found = re.search(r"SEEN(.*)END", done.stdout)
    assert found, done.stderr[-2000:]
    seen = json.loads(html.unescape(found[1]))
    assert seen["scroll"] <= seen["width"] == 390
    assert seen["images"] == [712] * 3
    assert seen["all"] == ["class-1", "class-1", "class-0"]
    assert seen["filtered"] == ["class-1", "class-1"]
    assert (seen["focused"], seen["outline"]) == ("class-1", "solid")
    assert seen["dark"] == dark
    assert seen["paper"] == ("rgb(19, 20, 22)" if dark else "rgb(251, 250, 248)")
