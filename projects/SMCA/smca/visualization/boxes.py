"""Labelled boxes and captions, and pictures as files.

With PIL alone: it is fast enough for video.
"""

import colorsys
import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from smca.whole_file import replacing

from .fonts import draw_text, legible, text_size

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
            _draw_label(canvas, legible(label), (box[0], box[1], box[3]), font_size, color)
    return np.asarray(canvas).copy()


def caption_bar(text: str, width: int, height: int = 30) -> np.ndarray:
    """(height, width, 3) RGB uint8, white letters on black."""
    bar = Image.new("RGB", (width, height), (26, 26, 26))
    text, size = legible(text), height // 2
    _, ascent, descent = text_size(text, size)
    draw_text(bar, (8, (height - ascent - descent) / 2), text, size, "white")
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
    canvas: Image.Image, label: str, corner: tuple[float, float, float], size: int, color: Color
) -> None:
    """Above a box, or below it where there is no room; ``corner`` is its left, top and bottom."""
    left, top, bottom = corner
    width, ascent, descent = text_size(label, size)
    width, height = width + 4, ascent + descent
    x = round(max(0, min(left, canvas.width - width)))
    y = round(top) - height
    if y < 0:
        y = round(bottom) + 1
    if y + height > canvas.height:
        y = max(0, round(top))
    box = [x, y, x + width - 1, y + height - 1]
    ImageDraw.Draw(canvas).rectangle(box, fill=color)
    draw_text(canvas, (x + 2, y), label, size, "black")
