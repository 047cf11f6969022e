"""Text in any script on pictures: which installed fonts have its letters, and what to draw where none has.

A *run* is text that one font draws, so that the font can join and reorder its letters (Arabic, Devanagari).
"""

from __future__ import annotations

import functools
import logging
import math
import re
import textwrap
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont, features

from smca.text import class_name, clip

from .letters import clusters, is_emoji, is_right_to_left, letters_of, substitute

logger = logging.getLogger(__name__)

_BITMAP_SIZES = (109, 128, 136, 160, 96, 72, 64, 48, 32, 20)
"""Pixels of fonts that are pictures, such as Noto Color Emoji."""
_LONGEST_SUBSTITUTE = 28
_CHART_SIZE = 12
_EAST_ASIAN = ("CJK", "HIRAGANA", "KATAKANA", "HANGUL", "BOPOMOFO")
_told: set[str] = set()


class Run(NamedTuple):
    """Text, and the file of the font that draws it; None is the usual one."""

    text: str
    file: Path | None


class Face(NamedTuple):
    """A font, and how much smaller than it is drawn."""

    font: ImageFont.FreeTypeFont
    factor: float


def class_label(class_id: int, names: Sequence[str]) -> str:
    """A class's name as it can be drawn: with its number beside it where no installed font has the name's letters."""
    name = class_name(class_id, names)
    shown = legible(name)
    if shown == name:
        return name
    short = textwrap.shorten(shown, _LONGEST_SUBSTITUTE, placeholder=" ...")
    return f"class {class_id} ({short if short != ' ...' else clip(shown, _LONGEST_SUBSTITUTE)})"


@functools.lru_cache(maxsize=4096)
def legible(text: str) -> str:
    """The text, with code points (U+732B) or an emoji's name for letters that no installed font has; says so once."""
    parts: list[str] = []
    lacking = _lacking(text)
    was_substitute = False
    for cluster in clusters(text):
        is_substitute = bool(letters_of(cluster) & lacking)
        if was_substitute and is_substitute:
            parts.append(" ")
        parts.append(substitute(cluster) if is_substitute else cluster)
        was_substitute = is_substitute
    if lacking:
        _tell(text, lacking)
    return "".join(parts)


@functools.lru_cache(maxsize=4096)
def runs_of(text: str) -> tuple[Run, ...]:
    """The text's parts and their fonts; a letter that no font has is the usual font's empty box."""
    runs: list[Run] = []
    # A word in one font where one has it all. From right to left the blank behind it, too: words in fonts of their own
    # would change places.
    for word in re.findall(r" +|[^ ]+", text):
        file = _font_file(letters_of(word))
        if word.isspace() and runs and is_right_to_left(runs[-1].text):
            file = runs[-1].file
        parts = [word] if _has(file, letters_of(word)) else clusters(word)
        for part in parts:
            file = file if part is word else _font_file(letters_of(part))
            if runs and runs[-1].file == file:
                runs[-1] = Run(runs[-1].text + part, file)
            else:
                runs.append(Run(part, file))
    return tuple(runs)


def chart_text(text: str) -> str:
    """The text as matplotlib can draw it, which does not take fonts that are pictures."""
    text = legible(text)
    parts = ((run, _face(run.file, _CHART_SIZE).factor == 1) for run in runs_of(text))
    return "".join(
        run.text if is_drawn else " ".join(map(substitute, clusters(run.text)))
        for run, is_drawn in parts
    )


def chart_families(texts: Iterable[str]) -> list[str]:
    """Matplotlib's ``font.family`` for such texts: its usual one, and those of further letters behind it."""
    from matplotlib.font_manager import FontProperties, fontManager

    files = {run.file for text in texts for run in runs_of(chart_text(text))} - {None}
    for file in files:
        fontManager.addfont(file)
    families = (FontProperties(fname=file).get_name() for file in sorted(files))
    return ["DejaVu Sans", *dict.fromkeys(families)]


def text_size(text: str, size: int) -> tuple[int, int, int]:
    """Width, and height above and below the line of letters, in pixels."""
    faces = [(run, _face(run.file, size)) for run in runs_of(text)] or [
        (Run("", None), _face(None, size))
    ]
    width = sum(face.factor * _length(run.text, face.font) for run, face in faces)
    metrics = np.array([[m * face.factor for m in face.font.getmetrics()] for _, face in faces])
    ascent, descent = np.ceil(metrics.max(axis=0)).astype(int).tolist()
    return math.ceil(width), ascent, descent


def draw_text(
    canvas: Image.Image, corner: tuple[float, float], text: str, size: int, fill: str
) -> None:
    """Draw on an RGB image in place.

    Args:
        canvas: the image.
        corner: left and top of the text, in pixels.
        text: of one line.
        size: height of the letters in pixels.
        fill: colour; emojis have their own.
    """
    draw = ImageDraw.Draw(canvas)
    (x, top), (_, ascent, _) = corner, text_size(text, size)
    for run in runs_of(text):
        face = _face(run.file, size)
        options = {**_direction(run.text), "anchor": "ls", "font": face.font}
        shown = _in_drawn_order(run.text)
        if face.factor == 1:
            options["embedded_color"] = run.file is not None
            draw.text((x, top + ascent), shown, fill=fill, **options)
        else:
            _paste_picture(canvas, (x, top + ascent), shown, face, options)
        x += face.factor * _length(run.text, face.font)


def _paste_picture(
    canvas: Image.Image, corner: tuple[float, float], text: str, face: Face, options: dict
) -> None:
    """Text of a font that has one size only, made smaller; ``corner`` is its left on the line of letters."""
    ascent, descent = face.font.getmetrics()
    width = math.ceil(_length(text, face.font))
    layer = Image.new("RGBA", (max(1, width), max(1, ascent + descent)))
    ImageDraw.Draw(layer).text((0, ascent), text, fill="black", embedded_color=True, **options)
    layer = layer.resize([max(1, round(side * face.factor)) for side in layer.size])
    canvas.paste(layer, (round(corner[0]), round(corner[1] - ascent * face.factor)), layer)


def _length(text: str, font: ImageFont.FreeTypeFont) -> float:
    return font.getlength(text, **_direction(text))


def _direction(text: str) -> dict[str, str]:
    """Lines go from left to right; of one that is read from right to left the number behind it stands at its left."""
    return {"direction": "ltr"} if _can_shape() and is_right_to_left(text) else {}


def _in_drawn_order(text: str) -> str:
    """Where nothing sets right-to-left text, at least its letters stand in their order."""
    if _can_shape() or not is_right_to_left(text):
        return text
    return "".join(reversed(list(clusters(text))))


@functools.cache
def _can_shape() -> bool:
    return features.check("raqm")


def _lacking(text: str) -> frozenset[int]:
    """Letters that no installed font has."""
    return frozenset(c for c in letters_of(text) if not _has(_font_file(frozenset([c])), {c}))


def _tell(text: str, lacking: frozenset[int]) -> None:
    """Which fonts to install, once for each script."""
    for code in sorted(lacking):
        script = unicodedata.name(chr(code), "OTHER").partition(" ")[0]
        package = "fonts-noto-core"
        if is_emoji(code):
            script, package = "EMOJI", "fonts-noto-color-emoji"
        elif script in _EAST_ASIAN:
            script, package = "CHINESE, JAPANESE OR KOREAN", "fonts-noto-cjk"
        if script in _told:
            continue
        _told.add(script)
        logger.warning(
            "No installed font has the letters of %r (%s), so pictures show their codes: install one, such as Noto "
            "(on Debian and Ubuntu: %s).",
            clip(text, 60), script.lower(), package,
        )  # fmt: skip


def _face(file: Path | None, size: int) -> Face:
    return _face_of(file or _usual(), size)


@functools.cache
def _face_of(file: Path | None, size: int) -> Face:
    if file is None:
        return Face(ImageFont.load_default(size), 1)
    engine = ImageFont.Layout.RAQM if _can_shape() else ImageFont.Layout.BASIC
    for number in (size, *_BITMAP_SIZES):
        try:
            return Face(ImageFont.truetype(file, number, layout_engine=engine), size / number)
        except OSError:
            # It has other sizes only.
            continue
    return Face(ImageFont.load_default(size), 1)


@functools.cache
def _usual() -> Path | None:
    """Matplotlib's, which has more letters than PIL's own."""
    # Heavy, and of no use without pictures.
    import matplotlib

    file = Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")
    return file if file.is_file() else None


@functools.lru_cache(maxsize=4096)
def _font_file(letters: frozenset[int]) -> Path | None:
    """The usual font (None) where it has the letters; else the first installed one that has, else one that has most."""
    if _has(None, letters):
        return None
    most, chosen = len(letters & _letters(_usual())), None
    for file in _installed():
        number = len(letters & _letters(file))
        if number > most:
            most, chosen = number, file
        if most == len(letters):
            break
    return chosen


def _has(file: Path | None, letters: frozenset[int] | set[int]) -> bool:
    return letters <= _letters(file or _usual())


@functools.cache
def _installed() -> list[Path]:
    """Upright fonts without serifs first; not those that have an empty box for everything."""
    from matplotlib import font_manager

    files = [Path(file) for file in font_manager.findSystemFonts()]

    def rank(file: Path) -> tuple:
        name = file.stem.lower()
        is_odd = any(
            word in name for word in ("bold", "italic", "oblique", "mono", "thin", "black")
        )
        return is_odd, "serif" in name, "sans" not in name, "regular" not in name, str(file)

    return sorted((f for f in files if "lastresort" not in f.stem.lower()), key=rank)


@functools.cache
def _letters(file: Path | None) -> frozenset[int]:
    if file is None:
        # PIL's own font.
        return frozenset(range(0x20, 0x7F))
    from matplotlib.ft2font import FT2Font

    try:
        return frozenset(FT2Font(str(file)).get_charmap())
    except RuntimeError:
        # A kind of font that it does not read.
        return frozenset()
