"""Labels in lists of images: what a line says, and whether it agrees with the class folders."""

import re
from collections.abc import Sequence
from pathlib import Path

from mhcln.console import UserError

_AROUND_LABELS = re.compile(r"[\s,;\[\]()\"']+")
_NUMBER = re.compile(r"(-?)0*(\d+)(?:\.0*)?", re.ASCII)


def label_of(path: Path, image: str, text: str) -> tuple[str, str]:
    """Return the label that follows the name of an image, as a number and as a name; "" for none.

    Several numbers are one label if all are 0 but one that is 1: the class as a one-hot vector.
    """
    words = [word for word in _AROUND_LABELS.split(text) if word]
    name = " ".join(dict.fromkeys(word for word in words if not _NUMBER.fullmatch(word)))
    numbers = numbers_in(text)
    if len(numbers) < 2:
        return "".join(numbers), name
    ones = numbers.count("1") if set(numbers) <= {"0", "1"} else None
    if ones == 1:
        return str(numbers.index("1")), name
    raise UserError(
        f"{path} gives {image} {len(numbers) if ones is None else ones or 'none'} of several labels, but an image has "
        "one class here, that of its folder; take lists of one label an image"
    )


def numbers_in(text: str) -> list[str]:
    """Return the words of a text that are whole numbers, in their shortest form."""
    found = (_NUMBER.fullmatch(word) for word in _AROUND_LABELS.split(text))
    return [match[1] + match[2] for match in found if match]


class ClassCheck:
    """Checks that the labels in lists are the class folders under other names."""

    def __init__(self, class_names: Sequence[str]) -> None:
        spellings = [plain(name) for name in class_names]
        # a spelling of two classes, or of none, tells nothing
        self._label_of = {name: label for label, name in enumerate(spellings) if name and spellings.count(name) == 1}
        self._seen: dict[tuple[str, str | int], tuple[str | int, str, str]] = {}

    def require_fit(self, path: str, texts: tuple[str, str], label: int, listed_in: Path) -> None:
        """Require that a label stands for one class, a class for one label, and that no label names another class."""
        for kind, text in zip(("number", "name"), texts, strict=True):
            if not text:
                continue
            pairs: list[tuple[str | int, str | int]] = [(text, label), (label, text)]
            for key, value in pairs:
                known, other, image = self._seen.setdefault((kind, key), (value, text, path))
                if known != value:
                    raise _misfit(listed_in, f"{text} for {path}, {other} for {image}")
        if self._label_of.get(plain(texts[1]), label) != label:
            raise _misfit(listed_in, f"{texts[1]} for {path}")


def _misfit(listed_in: Path, what: str) -> UserError:
    return UserError(
        f"{listed_in}: the labels in the lists do not fit the class folders ({what}); take lists of this data set, or "
        "correct what is wrong"
    )


def plain(name: str) -> str:
    """Return a name without what spellings of it differ in."""
    return re.sub(r"[\W_]", "", name).casefold()
