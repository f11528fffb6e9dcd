"""Thumbnails of many images as JPEG sheets; the name of a sheet is a digest of its files, so each is made once."""

import functools
import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image

from mhcln.console import Console
from mhcln.data.reading import AS_THEY_ARE, ImageError, Reading
from mhcln.reporting import pictures
from mhcln.reporting.pictures import TILE
from mhcln.storage.files import replacing

ACROSS = 10  # thumbnails in a row of a sheet, and rows
PER_SHEET = ACROSS * ACROSS
GROUND, GONE = "#8d8f94", "#6a6c71"  # beside images that are not square; an image that cannot be read
QUALITY = 80


def write_sheets(
    folder: Path, files: Sequence[Path], console: Console, reading: Reading = AS_THEY_ARE
) -> tuple[list[str], list[str]]:
    """Write the sheets of image files as far as they are missing, and remove the sheets of other files.

    Args:
        folder: Where the sheets are.
        files: The images; the first 100 are on the first sheet, row by row.
        console: Where the progress is shown.
        reading: How rasters are read.

    Returns:
        The names of the sheets, and the errors of the images that are grey in sheets written now.
    """
    groups = [files[start : start + PER_SHEET] for start in range(0, len(files), PER_SHEET)]
    names = [_name(group, reading) for group in groups]
    missing = {name: group for name, group in zip(names, groups, strict=True) if not (folder / name).exists()}
    problems: list[str] = []
    done = len(names) - len(missing)
    with console.bar(len(names), "thumbnails", "sheet", done) as bar, ThreadPoolExecutor(os.cpu_count()) as pool:
        for name, group in missing.items():
            sheet = Image.new("RGB", (ACROSS * TILE, ACROSS * TILE), GROUND)
            for number, thumbnail in enumerate(pool.map(functools.partial(_thumbnail, reading), group)):
                if isinstance(thumbnail, ImageError):
                    problems.append(f"{group[number]}: {thumbnail}")
                    thumbnail = Image.new("RGB", (TILE, TILE), GONE)
                row, column = divmod(number, ACROSS)
                left, top = (TILE - thumbnail.width) // 2, (TILE - thumbnail.height) // 2
                sheet.paste(thumbnail, (column * TILE + left, row * TILE + top))
            with replacing(folder / name) as part:
                sheet.save(part, format="JPEG", quality=QUALITY)
            bar.update()
    for path in folder.glob("sheet_*.jpg"):
        if path.name not in names:
            path.unlink()
    return names, problems


def _name(files: Sequence[Path], reading: Reading) -> str:
    """Return the name of the sheet of these files, as they are now, read in this way."""
    digest = hashlib.sha256(str(reading).encode())
    for file in files:
        try:
            status = file.stat()
            stamp = f"{status.st_size} {status.st_mtime_ns}"
        except OSError:
            stamp = "gone"
        digest.update(os.fsencode(file) + f"\n{stamp}\n".encode())
    return f"sheet_{digest.hexdigest()[:20]}.jpg"


def _thumbnail(reading: Reading, file: Path) -> Image.Image | ImageError:
    try:
        return pictures.thumbnail(pictures.read(file, reading))
    except ImageError as error:
        return error
