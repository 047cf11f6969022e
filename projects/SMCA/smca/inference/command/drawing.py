"""Boxes, class names and scores on an image. With PIL alone: it is fast enough for video and knows all letters."""

import colorsys
import functools
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from detectron2.structures import Instances
from PIL import Image, ImageDraw, ImageFont

from .results_file import class_name

_READABLE_SIDE = 400
_LARGEST_FACTOR = 8


def draw_boxes(
    image: np.ndarray, found: Instances, class_names: Sequence[str] = (), *, enlarge: bool = False
) -> np.ndarray:
    """Draw detections, the best on top.

    Args:
        image: (height, width, 3) BGR uint8; it is left as it is.
        found: with ``pred_boxes`` in pixels of ``image``, ``scores`` and ``pred_classes``.
        class_names: of classes 0 .. K-1.
        enlarge: make an image whose longer side has less than 400 pixels a whole number of times (at most 8) as large,
            so that labels are readable and hide little.

    Returns:
        (height', width', 3) BGR uint8.
    """
    height, width = image.shape[:2]
    factor = 1
    if enlarge:
        factor = min(_LARGEST_FACTOR, math.ceil(_READABLE_SIDE / max(height, width)))
    canvas = Image.fromarray(np.ascontiguousarray(image[:, :, ::-1]))
    if factor > 1:
        canvas = canvas.resize((width * factor, height * factor), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(canvas)
    diagonal = math.hypot(*canvas.size)
    font = _font(round(min(28, max(10, diagonal / 60))))
    line = max(1, round(min(6, diagonal / 350)))
    limits = np.array([canvas.width - 1, canvas.height - 1] * 2)
    order = found.scores.argsort().tolist()
    boxes, classes = found.pred_boxes.tensor.tolist(), found.pred_classes.tolist()
    scores = found.scores.tolist()
    for index in order:
        corners = (np.array(boxes[index]) * factor).round().clip(0, limits)
        draw.rectangle(corners.tolist(), outline=class_color(classes[index]), width=line)
    # After all boxes, so that no line crosses a label.
    for index in order:
        label = f"{class_name(classes[index], class_names)} {scores[index]:.2f}"
        corner = (boxes[index][0] * factor, boxes[index][1] * factor, boxes[index][3] * factor)
        _draw_label(draw, label, corner, font, class_color(classes[index]))
    return np.ascontiguousarray(np.asarray(canvas)[:, :, ::-1])


def class_color(class_id: int) -> tuple[int, int, int]:
    """Bright RGB, 0..255, the same in every image and far from those of the neighbouring classes."""
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
    color: tuple[int, int, int],
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


@functools.cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """Matplotlib's, since it has more letters than PIL's own and comes with Detectron2."""
    # Heavy, and of no use without pictures.
    import matplotlib

    path = Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")
    return ImageFont.truetype(path, size) if path.is_file() else ImageFont.load_default(size)
