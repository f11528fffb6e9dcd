"""An archive as one page that searches it in the browser: no server, no network, thumbnails in files beside it."""

import base64
import dataclasses
import json
from collections.abc import Mapping, Sequence
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
    """Content of the page.

    Attributes:
        title: The heading.
        archive: The images.
        sheets: Names of the sheets of thumbnails, of 100 images each.
        scores: Average precision of the rows that were queries of an evaluation.
        score_name: Its name, such as "AP@20".
        lonlat: `[n, 2]` longitude and latitude in degrees, NaN for an image without; None if there are none.
        report: Whether there is a report in the folder above.
    """

    title: str
    archive: Archive
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
            "known": len(part.levels) > 0,
        }
        for first, part in zip(archive.starts.tolist(), archive.parts, strict=False)
    ]
    labels, class_names = archive.classes()
    return {
        "bits": archive.bits,
        "report": content.report,
        "classes": class_names,
        "labels": _encoded(labels.astype("<i4")),
        "paths": [path for part in archive.parts for path in part.paths],
        "parts": parts,
        "codes": _encoded(codes),
        "levels": _encoded(_levels(archive)),
        "sheets": list(content.sheets),
        "scoreName": content.score_name,
        "scores": [[row, round(score, 6)] for row, score in content.scores.items()],
        "places": _places(content.lonlat),
    }


def _levels(archive: Archive) -> NDArray[np.uint8]:
    """Return the levels `[n, K]` in storage order, 0 where they are not known; empty if none are known."""
    if not any(len(part.levels) for part in archive.parts):
        return np.empty((0, archive.bits), np.uint8)
    blank = [np.zeros((len(part), archive.bits), np.uint8) for part in archive.parts]
    known = [part.unsorted().levels for part in archive.parts]
    return np.concatenate([found if len(found) else none for found, none in zip(known, blank, strict=True)])


def _encoded(array: NDArray[np.generic]) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()


def _places(lonlat: NDArray[np.float64] | None) -> str:
    """Return coordinates as whole numbers; "" if there are none."""
    if lonlat is None or not np.isfinite(lonlat).all(axis=1).any():
        return ""
    known = np.isfinite(lonlat).all(axis=1, keepdims=True)
    return _encoded(np.where(known, np.rint(np.where(known, lonlat, 0) * DEGREE), NOWHERE).astype("<i4"))
