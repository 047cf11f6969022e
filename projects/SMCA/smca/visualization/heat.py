"""Heat maps over an image, and marks for centres and extents."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

MARK = "#5cf2ff"
"""Of what a query predicts: centres of heads, ellipses, sampling points."""
_MOST_HEAT = 0.75
"""Opacity of the heat map where it is hottest."""


def heat_colors() -> np.ndarray:
    """(256, 3) uint8 from no heat to most."""
    # Heavy, and of no use to others that draw.
    from matplotlib import colormaps

    return (colormaps["inferno"](np.arange(256))[:, :3] * 255).astype(np.uint8)


def spread_heat(
    values: np.ndarray,
    size: tuple[int, int],
    *,
    stride: tuple[float, float] = (1.0, 1.0),
    origin: float = 0.0,
) -> np.ndarray:
    """Values of cells or pixels, linearly in between.

    Args:
        values: (h, w). A value belongs to a point, its cell's coordinate.
        size: (width, height) of the result.
        stride: pixels of the result per cell, as (x, y).
        origin: coordinate (i, j) is at ((i + origin) * stride_x, (j + origin) * stride_y) of the result.

    Returns:
        (height, width) float32.
    """
    width, height = size
    # PIL takes a coordinate for the corner of a cell; a cell more on each side repeats the border.
    padded = Image.fromarray(np.pad(values.astype(np.float32), 1, mode="edge"))
    left = 1.5 - origin
    right, lower = left + width / stride[0], left + height / stride[1]
    box = (left, left, min(right, padded.width), min(lower, padded.height))
    return np.asarray(padded.resize(size, Image.Resampling.BILINEAR, box=box))


def blend_heat(image: Image.Image, heat: np.ndarray) -> np.ndarray:
    """A heat map over an image: where there is none, the image shows.

    Args:
        image: RGB.
        heat: (height, width) of the image, >= 0; its largest value is the hottest.

    Returns:
        (height, width, 3) uint8.
    """
    heat = (heat / max(float(heat.max()), np.finfo(np.float32).tiny)).clip(0, 1)
    alpha = _MOST_HEAT * heat[..., None]
    colors = heat_colors()[(heat * 255).round().astype(np.uint8)]
    return ((1 - alpha) * np.asarray(image) + alpha * colors).astype(np.uint8)


def draw_cross(draw: ImageDraw.ImageDraw, x: float, y: float) -> None:
    for arm, color, line in ((7, "black", 5), (6, "white", 3)):
        draw.line([x - arm, y, x + arm, y], fill=color, width=line)
        draw.line([x, y - arm, x, y + arm], fill=color, width=line)


def draw_dot(draw: ImageDraw.ImageDraw, x: float, y: float, radius: float = 4) -> None:
    draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill=MARK, outline="black")


def draw_ellipse(
    draw: ImageDraw.ImageDraw, center: Sequence[float], half_axes: Sequence[float]
) -> None:
    """One that may reach far beyond the picture."""
    (x, y), (a, b) = center, (min(axis, 1e5) for axis in half_axes)
    draw.ellipse([x - a, y - b, x + a, y + b], outline=MARK, width=2)
