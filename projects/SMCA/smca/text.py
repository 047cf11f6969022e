"""Text from files, as a terminal, a log or a table can show it."""

import unicodedata
from collections.abc import Sequence

# Control characters, invisible marks such as those that turn the direction of writing, halves of characters, what has
# no agreed meaning, ends of lines.
_HIDDEN = ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")
_JOINERS = "\u200c\u200d"
"""Invisible marks that belong to the spelling of words."""


def printable(text: str, encoding: str = "utf-8") -> str:
    """Escape sequences, line breaks, other hidden characters and what ``encoding`` lacks as backslash escapes.

    Names in a file may hold anything, and some terminals obey what others only show.
    """
    safe = text.encode(encoding, "backslashreplace").decode(encoding)
    return "".join(c if is_shown(c) else repr(c)[1:-1] for c in safe)


def is_shown(character: str) -> bool:
    return unicodedata.category(character) not in _HIDDEN or character in _JOINERS


def clip(text: str, length: int = 300) -> str:
    """A text that may be of any length, as a part of a sentence."""
    return text if len(text) <= length else f"{text[: length - 3]}..."


def class_name(class_id: int, names: Sequence[str]) -> str:
    """A class's name on one line; its number if it has none."""
    if class_id >= len(names):
        return str(class_id)
    return printable(" ".join(names[class_id].split()))
