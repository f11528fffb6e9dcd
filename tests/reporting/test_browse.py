"""The page of an archive in a real browser: what it finds, what it shows, and that it stays harmless."""

import csv
import io
import json
import re

import numpy as np
import pytest
from conftest import RecordingConsole
from factories import archive_part
from PIL import Image

from mhcln.hamming.codes import binarise, pack, quantise
from mhcln.pipeline.opened_run import index_of
from mhcln.reporting import browse
from mhcln.reporting.browse import BrowsePage
from mhcln.reporting.sheets import write_sheets
from mhcln.storage.archive import Archive

NASTY = "<img src=x onerror=alert(1)>"
CLASSES = ["a harbor", "beach", NASTY]


def write_page(folder, n=130, bits=12, unknown=0, classes=CLASSES, **changes):
    """Write a page of `n` images of few codes, the last `unknown` of which have no activations; return its index."""
    rng = np.random.default_rng(bits)
    labels = (np.arange(n) % len(classes)).astype(np.int32)
    activations = rng.choice([0.001, 0.3, 0.45, 0.6, 0.999], (n, bits), p=[0.45, 0.1, 0.05, 0.05, 0.35])
    activations[n // 2 :] = activations[rng.integers(n // 2 or 1, size=n - n // 2)]  # equals
    images = folder / "images"
    folders = [classes[label].replace("/", "") for label in labels]
    paths = [f"{name}/{'é' if row % 7 else '𝒳#%'} {row}.png" for row, name in enumerate(folders)]
    for path in paths[:20]:
        (images / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20, 30), "green").save(images / path)
    codes, levels = pack(binarise(activations)), quantise(activations)
    parts = [slice(0, n - unknown), slice(n - unknown, n)]
    table = {"images_dir": str(images), "class_names": classes}
    known = [levels[parts[0]], levels[:0] if unknown else levels[parts[1]]]
    archive = Archive(
        [
            archive_part(codes[rows], paths[rows], labels=labels[rows], levels=each, **table)
            for rows, each in zip(parts, known, strict=True)
        ],
        bits,
    )
    sheets, _ = write_sheets(folder, [archive.file_of(row) for row in range(n)], RecordingConsole())
    scores = {row: row / n for row in range(n - 1, 0, -3)}
    content = BrowsePage("Title " + NASTY, archive, sheets, scores, "AP@20")
    content = BrowsePage(**{**vars(content), **changes})
    (folder / "index.html").write_text(browse.render(content), encoding="utf-8")
    return paths, index_of(archive, RecordingConsole())


def address(folder) -> str:
    return (folder / "index.html").as_uri()


def select(page, row: int) -> None:
    """Click an image of the overview and wait until it is shown: the address changes later than the click returns."""
    page.click(f'#images [data-row="{row}"] a')
    page.wait_for_selector("#picture:not([hidden])")


def close(page) -> None:
    page.keyboard.press("Escape")
    page.wait_for_selector("#overview:not([hidden])")


def listed(page) -> list[int]:
    return page.eval_on_selector_all("#images li", "all => all.map(e => +e.dataset.row)")


def hits(page) -> list[tuple[int, int]]:
    return page.eval_on_selector_all("#hits li", "all => all.map(e => [+e.dataset.row, +e.dataset.distance])")


def nearest(index, row: int) -> list:
    """Rows and distances of the 20 nearest, and how many are at the last distance."""
    query = index.stored(row)
    return [each[0].tolist() for each in index.search(query.codes, 20, query.levels)]


@pytest.mark.parametrize(("bits", "unknown"), [(12, 0), (32, 30), (70, 5), (1, 0)])
def test_a_click_finds_what_the_index_finds(tmp_path, visit, bits, unknown):
    paths, index = write_page(tmp_path, bits=bits, unknown=unknown)
    page = visit(address(tmp_path))
    for row in np.random.default_rng(1).permutation(len(paths))[:5].tolist():
        select(page, row)
        rows, distances, tied = nearest(index, row)
        assert hits(page) == [*map(list, zip(rows, distances, strict=True))]
        shown = distances.count(distances[-1])
        cut = f"{tied} images at distance {distances[-1]}, {shown} shown."
        assert (cut in page.inner_text("#ties")) == (tied > shown)
        assert page.inner_text("#facts dd").startswith(paths[row])
        close(page)


def test_names_stay_text_and_nothing_comes_from_outside(tmp_path, visit):
    write_page(tmp_path)
    text = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "default-src 'none'" in text
    assert not re.search(r'(?:src|href)="?https?:|@import|<link', text)
    assert NASTY not in text
    page = visit(address(tmp_path))
    assert page.inner_text("h1") == "Title " + NASTY
    assert len(listed(page)) == 130
    assert page.locator("#class option", has_text=NASTY).count() == 1
    select(page, 2)
    assert page.inner_text("#name") == NASTY
    assert page.eval_on_selector_all("img", "all => all.map(e => e.id)") == ["large"]
    assert page.get_attribute("#small", "aria-label").startswith(NASTY + ", ")


def test_addresses_the_back_button_and_keys(tmp_path, visit):
    paths, _ = write_page(tmp_path)
    page = visit(address(tmp_path) + "#beach/é 1.png")
    assert page.inner_text("#facts dd") == "beach/é 1.png"
    page.click("#hits li:nth-child(2) a")
    page.wait_for_function("document.querySelector('#facts dd').textContent !== 'beach/é 1.png'")
    page.go_back()
    page.wait_for_function("document.querySelector('#facts dd').textContent === 'beach/é 1.png'")
    close(page)
    focused = "document.activeElement.closest('li').dataset.row"
    assert page.evaluate(focused) == "1"
    page.keyboard.press("ArrowRight")
    assert page.evaluate(focused) == "2"
    for key in ("ArrowDown", "ArrowUp", "ArrowLeft", "Enter"):
        page.keyboard.press(key)
    page.wait_for_selector("#picture:not([hidden])")
    assert page.inner_text("#facts dd") == "beach/é 1.png"
    page.keyboard.press("/")
    page.wait_for_selector("#overview:not([hidden])")
    page.keyboard.type("é 1")
    assert listed(page) == [row for row, path in enumerate(paths) if "é 1" in path]
    page.keyboard.press("Escape")
    assert len(listed(page)) == 130
    page.select_option("#class", "1")
    page.select_option("#order", "worst")
    assert listed(page) == []  # of this class no image was a query
    page.select_option("#class", "0")
    assert listed(page) == list(range(3, 130, 3))
    assert "AP@20 0.023" in page.inner_text("#images")
    page.goto(address(tmp_path) + "#nothing%")
    page.reload()
    assert page.inner_text("#count") == "No image has the path nothing%."


def test_what_was_found_is_saved_as_csv_and_geojson(tmp_path, visit):
    lonlat = np.array([[-70.5 + row / 1000, 8.25] for row in range(130)])
    lonlat[5] = np.nan
    paths, index = write_page(tmp_path, classes=["=1+1", "b,c"], lonlat=lonlat)
    page = visit(address(tmp_path))
    select(page, 5)
    rows, distances, _ = nearest(index, 5)
    with page.expect_download() as download:
        page.click("#csv")
    assert download.value.suggested_filename == "neighbours_é 5.csv"
    text = download.value.path().read_text(encoding="utf-8")
    lines = list(csv.DictReader(io.StringIO(text)))
    assert [(int(line["distance"]), line["path"].lstrip("'")) for line in lines] == [
        (distance, paths[row]) for row, distance in zip(rows, distances, strict=True)
    ]
    assert {line["class"] for line in lines} <= {"'=1+1", "b,c"}
    with page.expect_download() as download:
        page.click("#geojson")
    features = json.loads(download.value.path().read_text(encoding="utf-8"))["features"]
    for rank, (feature, row) in enumerate(zip(features, rows, strict=True), 1):
        assert feature["properties"]["rank"] == rank
        assert feature["properties"]["path"] == paths[row]
        place = feature["geometry"] and feature["geometry"]["coordinates"]
        assert place == (None if row == 5 else pytest.approx(lonlat[row].tolist(), abs=1e-7))
    assert page.locator("#map circle").count() == len(set(rows) - {5})
    assert "Longitude -70.500 to -70.371" in page.inner_text("#map")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_fits_a_phone_in_both_themes(tmp_path, visit, scheme):
    write_page(tmp_path, classes=["a class with a rather long name, as they come"] * 1)
    page = visit(address(tmp_path), viewport={"width": 360, "height": 740}, color_scheme=scheme)
    for selector in ("#overview", "#picture"):
        page.wait_for_selector(f"{selector}:not([hidden])")
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        if selector == "#overview":
            select(page, 3)
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert paper == ("rgb(19, 20, 22)" if scheme == "dark" else "rgb(251, 250, 248)")
    page.wait_for_selector("#large:not([hidden])")  # the original
    assert page.get_attribute("#large", "alt").endswith(" 3.png")


def test_one_image_and_a_page_without_activations(tmp_path, visit):
    write_page(tmp_path, n=1, unknown=1, scores={}, classes=["only"])
    page = visit(address(tmp_path))
    select(page, 0)
    assert hits(page) == [[0, 0]]
    assert page.is_hidden("#geojson")
    close(page)
    assert page.is_hidden("#order-label")
