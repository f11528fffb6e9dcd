"""Which image a name in somebody's list means: by as much of its path as the list and the data set share."""

import itertools
from collections import defaultdict
from collections.abc import Iterable


class ImageFinder:
    r"""Finds the images that a name may mean, such as `airplane01`, `D:\UCMD\airplane\airplane01.tif` or a path.

    Names are compared from their end, folder by folder, and the longest agreement counts. The ending of a file may be
    another one or none. A folder that the data set has and the image does not lie in contradicts the image.
    """

    def __init__(self, paths: Iterable[str]) -> None:
        """Prepare for the paths of all images."""
        self._paths = set(paths)
        self._by_tail: dict[str, list[str]] = defaultdict(list)
        self._folders: dict[int, set[str]] = defaultdict(set)  # by their place, counted from the end
        for path in self._paths:
            *folders, name = path.split("/")
            for place, folder in enumerate(reversed(folders), start=1):
                self._folders[place].add(folder)
            for start in range(len(folders) + 1):
                for last in {name, _without_ending(name)}:
                    self._by_tail["/".join([*folders[start:], last])].append(path)

    def find(self, name: str) -> tuple[list[str], bool]:
        """Return the images that a name fits equally well, sorted, and whether it has the very ending of one."""
        if name in self._paths:
            return [name], True
        parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
        if not parts or not self._ending_in(parts[-1]):
            return [], False
        for start in range(max(len(parts) - len(self._folders) - 1, 0), len(parts)):
            tail = "/".join(parts[start:])
            if found := self._ending_in(tail):
                contradicted = start > 0 and parts[start - 1] in self._folders.get(len(parts) - start, ())
                exact = any(path == tail or path.endswith(f"/{tail}") for path in found)
                return ([], False) if contradicted else (sorted(found), exact)
        return [], False

    def _ending_in(self, tail: str) -> list[str]:
        return self._by_tail.get(tail) or self._by_tail.get(_without_ending(tail)) or []

    def readings(self, text: str, separators: Iterable[int]) -> list[tuple[str, str, list[str]]]:
        """Return the ways to read a text as the name of an image and what follows it.

        Args:
            text: The text, in which names may have blanks and commas.
            separators: Where the name may end, beside the end of the text.

        Returns:
            The name, the rest, and the images that the name fits, for each way; if a name has the very ending of an
            image, only such ways.
        """
        ways: list[tuple[str, str, list[str]]] = []
        exact_ways: list[tuple[str, str, list[str]]] = []
        for end in itertools.chain(separators, [len(text)]):
            name = text[:end].strip(" \t\"'")
            found, exact = self.find(name)
            if found:
                (exact_ways if exact else ways).append((name, text[end:], found))
        return exact_ways or ways


def _without_ending(tail: str) -> str:
    """Return a path without the ending of its file; an ending has no blanks in it."""
    stem, _, ending = tail.rpartition(".")
    return tail if not stem or stem.endswith("/") or "/" in ending or " " in ending else stem
