"""Labelled boxes and captions, and pictures as files.

With PIL alone: it is fast enough for video, and knows all letters that a font has.
"""

import colorsys
import functools
import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from smca.whole_file import replacing

Color = tuple[int, int, int]
"""RGB, 0..255."""


def paint_boxes(
    image: np.ndarray,
    boxes: Sequence[Sequence[float]],
    labels: Sequence[str],
    colors: Sequence[Color],
    *,
    scale: float = 1.0,
) -> np.ndarray:
    """Draw boxes in their order, then their labels, so that no line crosses one.

    Args:
        image: (height, width, 3) RGB uint8; it is left as it is.
        boxes: (x0, y0, x1, y1) in pixels of ``image``; what is outside of it is drawn along its border.
        labels: above each box, or below it where there is no room.
        colors: of the lines, and behind the labels' black letters.
        scale: of the picture to the image, so that labels of small images are readable and hide little.

    Returns:
        (height * scale, width * scale, 3) RGB uint8.
    """
    canvas = Image.fromarray(np.ascontiguousarray(image))
    if scale != 1:
        size = [max(1, round(side * scale)) for side in canvas.size]
        canvas = canvas.resize(size, Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(canvas)
    diagonal = math.hypot(*canvas.size)
    font_size = round(min(28, max(12, diagonal / 50)))
    line = max(1, round(min(6, diagonal / 250)))
    limits = np.array([canvas.width - 1, canvas.height - 1] * 2)
    ends = np.asarray(boxes, dtype=float).reshape(-1, 2, 2) * scale
    # A faulty box may have its ends exchanged.
    scaled = np.concatenate([ends.min(1), ends.max(1)], 1).tolist()
    for box, color in zip(scaled, colors, strict=True):
        corners = np.array(box).round().clip(0, limits)
        draw.rectangle(corners.tolist(), outline=color, width=line)
    for box, label, color in zip(scaled, labels, colors, strict=True):
        if label:
            _draw_label(draw, label, (box[0], box[1], box[3]), font_of(label, font_size), color)
    return np.asarray(canvas).copy()


def caption_bar(text: str, width: int, height: int = 30) -> np.ndarray:
    """(height, width, 3) RGB uint8, white letters on black."""
    bar = Image.new("RGB", (width, height), (26, 26, 26))
    ImageDraw.Draw(bar).text(
        (8, height / 2), text, fill="white", font=font_of(text, height // 2), anchor="lm"
    )
    return np.asarray(bar)


def save_png(image: np.ndarray, path: str | os.PathLike) -> None:
    """Write a picture, (height, width, 3) RGB uint8, as a whole or not at all; makes the folder."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        Image.fromarray(image).save(partial, format="PNG")


def class_color(class_id: int, colors: Sequence[Color] = ()) -> Color:
    """The data set's own of ``colors``; else a bright one, far from those of the neighbouring classes."""
    if colors:
        return tuple(colors[class_id])
    golden_ratio = (math.sqrt(5) - 1) / 2
    return tuple(
        round(255 * channel)
        for channel in colorsys.hsv_to_rgb(class_id * golden_ratio % 1, 0.65, 1)
    )


def _draw_label(
    draw: ImageDraw.ImageDraw,
    label: str,
    corner: tuple[float, float, float],
    font: ImageFont.FreeTypeFont,
    color: Color,
) -> None:
    """Above a box, or below it where there is no room; ``corner`` is its left, top and bottom."""
    left, top, bottom = corner
    canvas_width, canvas_height = draw.im.size
    ascent, descent = font.getmetrics()
    width, height = math.ceil(font.getlength(label)) + 4, ascent + descent
    x = round(max(0, min(left, canvas_width - width)))
    y = round(top) - height
    if y < 0:
        y = round(bottom) + 1
    if y + height > canvas_height:
        y = max(0, round(top))
    draw.rectangle([x, y, x + width - 1, y + height - 1], fill=color)
    draw.text((x + 2, y), label, fill="black", font=font)


def font_of(text: str, size: int) -> ImageFont.FreeTypeFont:
    """One that has the text's letters, if any is installed."""
    return _font(_font_file(frozenset(ord(letter) for letter in text)), size)


@functools.cache
def _font(path: Path | None, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.load_default(size) if path is None else ImageFont.truetype(path, size)


@functools.lru_cache(maxsize=4096)
def _font_file(letters: frozenset[int]) -> Path | None:
    """Matplotlib's, which has more letters than PIL's own; where it lacks some, the installed one that has most."""
    # Heavy, and of no use without pictures.
    import matplotlib

    usual = Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")
    if not usual.is_file():
        return None
    missing = letters - _letters(usual)
    if not missing:
        return usual
    return min([usual, *_installed()], key=lambda path: len(letters - _letters(path)))


@functools.cache
def _installed() -> list[Path]:
    from matplotlib import font_manager

    return [Path(file) for file in sorted(font_manager.findSystemFonts())]


@functools.cache
def _letters(path: Path) -> frozenset[int]:
    from matplotlib.ft2font import FT2Font

    try:
        return frozenset(FT2Font(str(path)).get_charmap())
    except RuntimeError:
        # A kind of font that it does not read.
        return frozenset()
