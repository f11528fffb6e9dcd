"""An archive as one page that searches it in the browser: no server, no network, thumbnails in files beside it."""

import base64
import dataclasses
import json
import os.path
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template

import numpy as np
from numpy.typing import NDArray

from mhcln.reporting import page
from mhcln.storage.archive import Archive

HERE = Path(__file__).parent
DEGREE = 10**7  # steps of a coordinate, of about a centimetre
NOWHERE = np.iinfo(np.int32).min


@dataclasses.dataclass(frozen=True)
class BrowsePage:
    """What the page shows.

    Attributes:
        title: Its heading.
        archive: The images.
        levels: For each part of the archive `[n, K] uint8`, by which equal codes are ordered (`mhcln.hamming.ordered`);
            None if they are not known.
        sheets: Names of the thumbnails' sheets, of 100 images each.
        scores: Average precision of the rows that were queries of an evaluation.
        score_name: What that is, such as "AP@20".
        lonlat: `[n, 2]` longitude and latitude in degrees, NaN for an image without; None if nothing says it.
        report: Whether there is a report in the folder above.
    """

    title: str
    archive: Archive
    levels: Sequence[NDArray[np.uint8] | None]
    sheets: Sequence[str]
    scores: Mapping[int, float]
    score_name: str = ""
    lonlat: NDArray[np.float64] | None = None
    report: bool = False


def render(content: BrowsePage) -> str:
    """Return the page as HTML. All texts that come from files are data in it, which its script shows as text."""
    # no "<" in a script of JSON: nothing in it can end it
    data = json.dumps(_data(content), separators=(",", ":")).replace("<", "\\u003c")
    styles = page.STYLE.read_text(encoding="utf-8") + (HERE / "browse.css").read_text(encoding="utf-8")
    return Template((HERE / "browse.html").read_text(encoding="utf-8")).substitute(
        title=escape(content.title),
        styles=styles,
        data=data,
        search=(HERE / "browse_search.js").read_text(encoding="utf-8"),
        script=(HERE / "browse.js").read_text(encoding="utf-8"),
    )


def _data(content: BrowsePage) -> dict[str, object]:
    archive = content.archive
    codes = np.concatenate([part.codes for part in archive.parts])
    codes = np.pad(codes, [(0, 0), (0, -codes.shape[1] % 4)])  # whole words of 32 bits
    parts = [
        {
            "first": first,
            "folder": Path(part.images_dir).resolve().as_uri() if part.images_dir else "",
            "known": levels is not None,
        }
        for first, part, levels in zip(archive.starts.tolist(), archive.parts, content.levels, strict=False)
    ]
    unknown = (np.zeros((len(part), archive.bits), np.uint8) for part in archive.parts)
    levels = [blank if each is None else each for blank, each in zip(unknown, content.levels, strict=True)]
    labels, class_names = archive.classes()
    return {
        "bits": archive.bits,
        "report": content.report,
        "classes": class_names,
        "labels": _encoded(labels.astype("<i4")),
        "paths": list(_shortened(path for part in archive.parts for path in part.paths)),
        "parts": parts,
        "codes": _encoded(codes),
        "levels": _encoded(np.concatenate(levels))
        if any(each is not None and len(each) for each in content.levels)
        else "",
        "sheets": list(content.sheets),
        "scoreName": content.score_name,
        "scores": [[row, round(score, 6)] for row, score in content.scores.items()],
        "places": _places(content.lonlat),
    }


def _encoded(array: NDArray[np.generic]) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()


def _places(lonlat: NDArray[np.float64] | None) -> str:
    """Return coordinates as whole numbers; "" if there are none."""
    if lonlat is None or not np.isfinite(lonlat).all(axis=1).any():
        return ""
    known = np.isfinite(lonlat).all(axis=1, keepdims=True)
    return _encoded(np.where(known, np.rint(np.where(known, lonlat, 0) * DEGREE), NOWHERE).astype("<i4"))


def _shortened(paths: Iterable[str]) -> Iterator[int | str]:
    """Yield for each path how many letters it shares with the one before, and the others.

    Worked: "beach/1.tif", "beach/12.tif" give 0, "beach/1.tif", 7, "2.tif". Letters of which JavaScript counts two are
    never shared.
    """
    previous = ""
    for path in paths:
        common = os.path.commonprefix((previous, path))
        shared = next((place for place, letter in enumerate(common) if letter > "\uffff"), len(common))
        yield shared
        yield path[shared:]
        previous = path
