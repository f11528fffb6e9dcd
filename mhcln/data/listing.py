"""What one folder holds: images, folders, and what is neither."""

import dataclasses
import os
from pathlib import Path

from mhcln.console import UserError
from mhcln.data.names import shown

ENDINGS = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
# What macOS adds to archives, Linux and Windows to disks, Synology to shared folders. Jupyter's .ipynb_checkpoints is
# hidden anyway.
SYSTEM_FOLDERS = frozenset(("__macosx", "lost+found", "system volume information", "$recycle.bin", "@eadir"))


@dataclasses.dataclass(frozen=True)
class Listing:
    """The entries of a folder, as sorted names.

    Attributes:
        images: Files with the ending of an image, and links with such a name, wherever they lead.
        folders: Folders, and links to folders.
        linked: Those of `folders` that are links.
        dead: Other links that lead nowhere.
        others: Everything else: other files, what is hidden, folders that a system made.
    """

    images: list[str] = dataclasses.field(default_factory=list)
    folders: list[str] = dataclasses.field(default_factory=list)
    linked: list[str] = dataclasses.field(default_factory=list)
    dead: list[str] = dataclasses.field(default_factory=list)
    others: list[str] = dataclasses.field(default_factory=list)


def list_folder(folder: Path | str) -> Listing:
    """Return what a folder holds.

    Raises:
        UserError: It cannot be opened.
    """
    listing = Listing()
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                _kind(entry, listing).append(entry.name)
    except OSError as error:
        name = shown(str(folder))
        raise UserError(f"{name} cannot be opened ({error.strerror}); make it readable, or move it away") from None
    for names in vars(listing).values():
        names.sort()
    return listing


def _kind(entry: "os.DirEntry[str]", listing: Listing) -> list[str]:
    """Return the list of `listing` that an entry belongs to."""
    if entry.name.startswith("."):
        return listing.others
    if _is_folder(entry):
        if entry.name.casefold() in SYSTEM_FOLDERS:
            return listing.others
        if entry.is_symlink():
            listing.linked.append(entry.name)
        return listing.folders
    if entry.name.lower().endswith(ENDINGS):
        return listing.images
    return listing.dead if entry.is_symlink() and _leads_nowhere(entry) else listing.others


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself, or to where the user may not look
        return False


def _leads_nowhere(link: "os.DirEntry[str]") -> bool:
    try:
        link.stat()
    except OSError:
        return True
    return False
