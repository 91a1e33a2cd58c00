"""The names of classes: which label a user means, and how a label is shown."""

from __future__ import annotations

import re
import unicodedata

from ganframe.components import DataSpec
from ganframe.errors import did_you_mean

LISTED = 12  # names in one line


def label_of(spec: DataSpec, text: str) -> int:
    """The label of a class that is given by its name, or by its number: 0 for the first class.

    A name comes first: of folders 1, 2 and 3, "3" is the third class, whose label is 2. Where any name is a number, a
    number is only a name, so that one numbering never turns into the other: then "0" is no class of these folders.

    Raises ValueError where there is no such class. A number may be out of range.
    """
    names = spec.class_names or ()
    if text in names:
        return names.index(text)
    same = [label for label, name in enumerate(names) if _composed(name) == _composed(text)]
    if len(same) == 1:  # é in one character or in two, as in archives from older macOS
        return same[0]
    if not re.fullmatch(r"[+-]?\d{1,18}", text) or any(name.isdecimal() for name in names):
        if not names:
            raise ValueError(f"'{text}': the classes of this data have no names; give a label, 0 for the first class")
        known = did_you_mean(text, names) if len(names) > LISTED else f"; the classes are {shown_classes(spec)}"
        raise ValueError(f"'{text}': no class has this name{known}")
    return int(text)


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def shown_class(spec: DataSpec, label: int) -> str:
    """A label for a person, with its name where it has one."""
    return f"label {label}" if spec.class_names is None else f"'{spec.class_names[label]}' (label {label})"


def shown_classes(spec: DataSpec) -> str:
    """The labels with their names, in one line: "0 'cat', 1 'dog'"; of many the first ones and the last. "" without."""
    names = [f"{label} '{printable(name)}'" for label, name in enumerate(spec.class_names or ())]
    if len(names) > LISTED:
        names[LISTED - 1 : -1] = ["…"]
    return ", ".join(names)


def printable(name: str) -> str:
    """The name without what a terminal cannot show: line breaks, and bytes of a file's name that are not UTF-8."""
    return "".join(char if char.isprintable() else "?" for char in name)
