"""What the letters of a text are, whatever fonts there may be.

A *cluster* is what a reader takes for one letter: a character with the marks and joiners that belong to it.
"""

import unicodedata
from collections.abc import Iterator

_JOINERS = frozenset((0x200C, 0x200D))
_SELECTORS = frozenset(range(0xFE00, 0xFE10))
_SKIN_TONES = frozenset(range(0x1F3FB, 0x1F400))
_PICTURES = range(0x1F000, 0x1FB00)
_INVISIBLE = _JOINERS | _SELECTORS
"""What a font need not have: it says how its neighbours look."""


def clusters(text: str) -> Iterator[str]:
    """The text's clusters in order."""
    cluster = ""
    for letter in text:
        code = ord(letter)
        joins = (
            unicodedata.category(letter).startswith("M")
            or code in _INVISIBLE | _SKIN_TONES
            or (cluster and ord(cluster[-1]) == 0x200D)
        )
        if cluster and not joins:
            yield cluster
            cluster = ""
        cluster += letter
    if cluster:
        yield cluster


def letters_of(text: str) -> frozenset[int]:
    """Code points that a font must have to draw the text."""
    return frozenset(map(ord, text)) - _INVISIBLE


def is_right_to_left(text: str) -> bool:
    """Whether it has letters of a script that is."""
    return any(unicodedata.bidirectional(letter) in ("R", "AL") for letter in text)


def substitute(cluster: str) -> str:
    """What a cluster is called: an emoji's name, or its code points as U+732B."""
    first = cluster[0]
    name = unicodedata.name(first, "")
    if is_emoji(ord(first)) and name:
        return f":{name.lower()}:"
    return " ".join(f"U+{code:04X}" for code in map(ord, cluster) if code not in _INVISIBLE)


def is_emoji(code: int) -> bool:
    """Also one that is younger than Python's table of names."""
    return unicodedata.category(chr(code)) in ("So", "Sk") or code in _PICTURES
