"""How long the page of a large archive takes in Chromium to open and to search, and how large it is.

python tests/benchmarks/browse.py [--images=100000] [--bits=32] [--searches=50]    (needs `pip install playwright`)

The images are made up: codes around 45 classes, no pictures. "Opens" is from the start of the navigation until the page
can be used, "search" the search alone, "click" from a click until the neighbours are drawn (two frames). The browser is
what MHCLN_CHROMIUM names, or the Chromium of this machine.
"""

import argparse
import os
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np
from playwright.sync_api import sync_playwright

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mhcln.console import Quiet
from mhcln.hamming.index import Index
from mhcln.pipeline.additions import coded
from mhcln.pipeline.opened_run import index_of
from mhcln.reporting.browse import BrowsePage, render
from mhcln.storage.archive import Archive
from mhcln.storage.image_table import ImageTable

CLICK = """row => new Promise(done => {
  const start = performance.now();
  location.hash = document.querySelector(`#images [data-row="${row}"] a`).hash;
  addEventListener("hashchange", () => requestAnimationFrame(() => requestAnimationFrame(
    () => done(performance.now() - start))), {once: true});
})"""


def made_up(n: int, bits: int) -> tuple[BrowsePage, Index]:
    rng = np.random.default_rng(0)
    labels = np.sort(rng.integers(45, size=n)).astype(np.int32)
    before_sigmoid = 8 * rng.normal(size=(45, bits))[labels] + rng.normal(size=(n, bits))
    activations = (1 / (1 + np.exp(-before_sigmoid))).astype(np.float32)
    paths = [f"class_{label:02}/scene_{row:06}.jpg" for row, label in enumerate(labels)]
    names = [f"class {label}" for label in range(45)]
    archive = Archive([coded(ImageTable(labels, paths, names, images_dir="/images"), activations)], bits)
    sheets = [f"sheet_{row:020}.jpg" for row in range(-(-n // 100))]
    scores = dict.fromkeys(range(0, n, 3), 0.5)
    lonlat = rng.random((n, 2)) * [4, 3] + [7, 46]
    return BrowsePage("Made up", archive, sheets, scores, "AP@20", lonlat), index_of(archive, Quiet())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--bits", type=int, default=32)
    parser.add_argument("--searches", type=int, default=50)
    flags = parser.parse_args()
    content, index = made_up(flags.images, flags.bits)
    text = render(content)
    browser = os.environ.get("MHCLN_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        path = Path(folder) / "index.html"
        path.write_text(text, encoding="utf-8")
        running = driver.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        opened = []
        for _ in range(5):
            page = running.new_page()
            page.goto(path.as_uri())
            opened.append(page.evaluate("performance.getEntriesByName('ready')[0].startTime"))
        clicks, same = [], 0
        for row in np.random.default_rng(1).integers(min(200, flags.images), size=flags.searches).tolist():
            clicks.append(page.evaluate(CLICK, row))
            hits = page.eval_on_selector_all("#hits li", "all => all.map(e => [+e.dataset.row, +e.dataset.distance])")
            query = index.stored(row)
            rows, distances, _ = index.search(query.codes, 20, query.levels)
            same += hits == [*map(list, zip(rows[0].tolist(), distances[0].tolist(), strict=True))]
            page.evaluate("location.hash = ''")
            page.wait_for_selector("#overview:not([hidden])")
        searches = page.evaluate("performance.getEntriesByName('search').map(entry => entry.duration)")
        version = running.version
        running.close()
    print(f"Chromium {version}, {flags.images:,} images, {flags.bits} bits, load {os.getloadavg()[0]:.1f}")
    print(f"page {len(text.encode()) / 1e6:.2f} MB; opens in {statistics.median(opened):.0f} ms (median of 5)")
    for name, times in (("search", searches), ("click", clicks)):
        print(f"{name}: median {statistics.median(times):.1f} ms, longest {max(times):.1f} ms")
    print(f"the rows and distances of Python in {same} of {flags.searches} searches")


if __name__ == "__main__":
    main()
