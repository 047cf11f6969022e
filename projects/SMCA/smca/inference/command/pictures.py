"""Files that show an image with what was found in it."""

import io
import math
from pathlib import Path

import numpy as np
from PIL import Image

from smca.whole_file import replacing

_JPEG_SUFFIXES = (".jpg", ".jpeg")
_LARGEST_JPEG = 65500
"""Pixels of a side."""
_READABLE_SIDE, _LARGEST_FACTOR = 400, 8


def magnification(image: np.ndarray) -> int:
    """How many times as large an image (H, W, 3) is shown: labels of small ones are readable then and hide little."""
    return min(_LARGEST_FACTOR, math.ceil(_READABLE_SIDE / max(image.shape[:2])))


def picture_name(path: Path, image: np.ndarray) -> str:
    """A JPEG file's own name where a JPEG file can hold its picture, else that of a PNG file."""
    is_jpeg = path.suffix.lower() in _JPEG_SUFFIXES
    return path.name if is_jpeg and max(image.shape[:2]) <= _LARGEST_JPEG else f"{path.stem}.png"


def write_picture(path: Path, pixels: np.ndarray) -> None:
    """Write RGB pixels in the format of the file's name.

    Raises:
        OSError: with the file's name, if it cannot be written.
    """
    is_jpeg = path.suffix.lower() in _JPEG_SUFFIXES
    options = {"format": "JPEG", "quality": 92} if is_jpeg else {"format": "PNG"}
    # PIL writing a file by itself does not say that the disk is full.
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, **options)
    with replacing(path) as partial:
        partial.write_bytes(content.getbuffer())
