"""Composes one image of handwritten digits on a photograph, with its boxes."""

from __future__ import annotations

import colorsys
import math
from typing import NamedTuple

import numpy as np
from PIL import Image

from .sources import DigitSources
from .spec import SPLITS, DigitsSpec

_VISIBLE = 0.15  # fainter parts of a digit, of 1 for full ink, are outside its box and left out
_PLACEMENT_TRIES = 30


class PastedDigit(NamedTuple):
    """One digit of an image.

    Attributes:
        label: 0..9.
        box: x, y, width, height in pixels, tight around the visible ink, inside the image.
        sample: index of the handwritten sample in scikit-learn's data.
    """

    label: int
    box: tuple[float, float, float, float]
    sample: int


def compose_image(
    spec: DigitsSpec, split: str, index: int, sources: DigitSources
) -> tuple[np.ndarray, list[PastedDigit]]:
    """Composes image number `index` of `split`; it depends on no other image.

    Args:
        spec: what the images look like.
        split: "train" or "val".
        index: number of the image, from 0.
        sources: digits and photographs, from `load_sources(spec)`.

    Returns:
        (H, W, 3) uint8 RGB, and its digits in the order they were pasted.
    """
    rng = np.random.default_rng([spec.seed, SPLITS.index(split), index])
    height, width = _draw_size(rng, spec)
    canvas = _draw_background(rng, height, width, sources.photos[split])
    empty = rng.random() < spec.empty_fraction
    count = 0 if empty else int(rng.integers(1, spec.max_objects + 1))

    digits: list[PastedDigit] = []
    for _ in range(count):
        label = int(rng.integers(len(sources.samples[split])))
        sample = int(rng.choice(sources.samples[split][label]))
        alpha = _draw_digit(rng, sources.glyphs[sample], spec)
        color = _draw_color(rng, spec)
        box = _draw_place(rng, alpha.shape, (height, width), [d.box for d in digits], spec)
        if box is None:
            continue
        _paste(canvas, alpha, color, box)
        digits.append(PastedDigit(label, tuple(float(v) for v in box), sample))
    return np.rint(canvas).astype(np.uint8), digits


def _draw_size(rng: np.random.Generator, spec: DigitsSpec) -> tuple[int, int]:
    height, width = spec.image_height, spec.image_width
    varied, shorten_height = rng.random() < spec.varied_fraction, rng.random() < 0.5
    scale = rng.uniform(spec.min_aspect, 1.0)
    if varied and shorten_height:
        height = math.ceil(scale * height)
    elif varied:
        width = math.ceil(scale * width)
    return height, width


def _draw_background(
    rng: np.random.Generator, height: int, width: int, photos: list[np.ndarray]
) -> np.ndarray:
    """(height, width, 3) float32: a crop at the photo's own scale, enlarged if it is too small."""
    photo = photos[int(rng.integers(len(photos)))]
    scale = min(1.0, photo.shape[0] / height, photo.shape[1] / width)
    crop_h, crop_w = int(scale * height), int(scale * width)
    top = int(rng.integers(photo.shape[0] - crop_h + 1))
    left = int(rng.integers(photo.shape[1] - crop_w + 1))
    crop = photo[top : top + crop_h, left : left + crop_w]
    if rng.random() < 0.5:
        crop = crop[:, ::-1]
    if (crop_h, crop_w) == (height, width):
        return crop.copy()
    channels = [Image.fromarray(np.ascontiguousarray(crop[..., c])) for c in range(3)]
    return np.stack([np.asarray(c.resize((width, height), Image.BILINEAR)) for c in channels], -1)


def _draw_digit(rng: np.random.Generator, glyph: np.ndarray, spec: DigitsSpec) -> np.ndarray:
    """(h, w) float32 alpha in [0, 1], turned, sheared, stretched, and cut to its visible ink."""
    angle = math.radians(rng.uniform(-spec.max_rotation, spec.max_rotation))
    shear = rng.uniform(-spec.max_shear, spec.max_shear)
    stretch = math.exp(rng.uniform(-1, 1) * math.log(spec.max_stretch))
    long_side = int(rng.integers(spec.digit_min, spec.digit_max + 1))
    opacity = rng.uniform(spec.min_opacity, 1.0)

    # PIL wants the map from output to input pixels; both centres are kept in place.
    cos, sin, centre = math.cos(angle), math.sin(angle), glyph.shape[0] / 2
    matrix = np.array([[cos, sin + shear * cos], [-sin, cos - shear * sin]])
    offset = centre - matrix @ [centre, centre]
    data = (*matrix[0], offset[0], *matrix[1], offset[1])
    turned = Image.fromarray(glyph).transform(glyph.shape[::-1], Image.AFFINE, data, Image.BICUBIC)
    left, top, right, bottom = turned.point(lambda v: 255 if v > 255 * _VISIBLE else 0).getbbox()

    width, height = (right - left) * math.sqrt(stretch), (bottom - top) / math.sqrt(stretch)
    scale = long_side / max(width, height)
    size = (max(round(scale * width), 3), max(round(scale * height), 3))
    # Resizing averages over the pixels that shrink into one, so small digits have no jaggies.
    ink = turned.resize(size, Image.LANCZOS, box=(left, top, right, bottom))
    alpha = np.asarray(ink, dtype=np.float32) / 255
    rows, columns = np.flatnonzero(alpha.max(1) > _VISIBLE), np.flatnonzero(alpha.max(0) > _VISIBLE)
    alpha = alpha[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return alpha * np.float32(opacity)


def _draw_color(rng: np.random.Generator, spec: DigitsSpec) -> np.ndarray:
    hue, saturation = rng.random(), rng.uniform(0.0, spec.max_saturation)
    value = rng.uniform(spec.min_brightness, 1.0)
    return 255 * np.array(colorsys.hsv_to_rgb(hue, saturation, value), dtype=np.float32)


def _draw_place(
    rng: np.random.Generator,
    size: tuple[int, int],
    image_size: tuple[int, int],
    taken: list[tuple[float, float, float, float]],
    spec: DigitsSpec,
) -> tuple[int, int, int, int] | None:
    """A box (x, y, w, h) of `size` (h, w) that hardly overlaps those `taken`, or None."""
    (h, w), (image_h, image_w) = size, image_size
    for _ in range(_PLACEMENT_TRIES):
        y, x = int(rng.integers(image_h - h + 1)), int(rng.integers(image_w - w + 1))
        if all(box_overlap((x, y, w, h), other) <= spec.max_overlap for other in taken):
            return x, y, w, h
    return None


def box_overlap(
    a: tuple[float, float, float, float], b: tuple[float, float, float, float]
) -> float:
    """Intersection of two boxes (x, y, w, h) over the area of the smaller one."""
    shared_w = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    shared_h = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    return max(shared_w, 0) * max(shared_h, 0) / min(a[2] * a[3], b[2] * b[3])


def _paste(
    canvas: np.ndarray, alpha: np.ndarray, color: np.ndarray, box: tuple[int, int, int, int]
) -> None:
    x, y, w, h = box
    window = canvas[y : y + h, x : x + w]
    window += alpha[..., None] * (color - window)
