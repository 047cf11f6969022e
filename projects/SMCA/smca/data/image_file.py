"""Reads an image file as a viewer shows it: the one reader of training, evaluation, checking and prediction."""

from __future__ import annotations

import contextlib
import os
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from detectron2.data.detection_utils import _apply_exif_orientation, convert_PIL_to_numpy
from PIL import Image, UnidentifiedImageError

from smca.errors import InputError

IMAGE_SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".gif", ".bmp", ".dib", ".tif", ".tiff", ".webp",
    ".avif", ".jp2", ".j2k", ".ppm", ".pgm", ".pbm", ".pnm", ".ico", ".qoi",
)  # fmt: skip
"""What counts as an image in a folder. A file that is named is tried whatever it ends in."""

MAX_PIXELS = 100_000_000
"""Pixels (width x height) that a stranger's header may claim before a file is refused unread."""
MAX_DATA_SET_PIXELS = 178_956_970
"""The same of a data set's own files: where PIL, and so Detectron2, refuses a file."""

# What viewers and browsers show. Others of PIL's formats start another program (EPS), hold several kinds of data, or
# have no signature, so that any damaged file could be taken for one of them.
_FORMATS = (
    "JPEG", "MPO", "PNG", "GIF", "BMP", "DIB", "TIFF", "WEBP", "AVIF", "JPEG2000", "PPM", "ICO", "QOI",
)  # fmt: skip
_EXIF_ORIENTATION = 0x0112
_TURNED = (5, 6, 7, 8)
_LIMIT_LOCK = threading.Lock()


class UnreadableImageError(InputError):
    """One sentence that names the file."""

    def __init__(self, sentence: str):
        # A loading process hands its error over as the text of a traceback, whose last line the sentence is.
        super().__init__(sentence.strip().rpartition(f"{type(self).__name__}: ")[2])


def read_image(
    path: str | os.PathLike, *, format: str = "BGR", max_pixels: int = MAX_PIXELS
) -> np.ndarray:
    """An image file as a viewer shows it.

    The content decides on the format, whatever the name ends in. The EXIF orientation is applied, 16 bits are scaled
    to 8, transparent parts are white, the first frame of several is taken. Colour profiles are not applied.

    Args:
        path: the file.
        format: of the result, as Detectron2's ``read_image`` takes it: BGR, RGB, L, ...
        max_pixels: a file whose header claims more is refused before memory is allocated.

    Returns:
        (height, width, channels) uint8, contiguous and writable.

    Raises:
        UnreadableImageError: if it cannot be read or has no displayable values.
    """
    with _quiet_pil(max_pixels), _opened(path, max_pixels) as image:
        return np.require(convert_PIL_to_numpy(_as_shown(image), format), requirements="CW")


def read_image_size(
    path: str | os.PathLike, *, max_pixels: int = MAX_DATA_SET_PIXELS
) -> tuple[int, int]:
    """(width, height) in pixels that :func:`read_image` returns, from the file's header.

    Raises:
        UnreadableImageError: as :func:`read_image`, if the header says so already.
    """
    with _opened(path, max_pixels) as image:
        return (image.height, image.width) if _is_turned(image) else image.size


def is_turned(path: str | os.PathLike) -> bool:
    """Whether the EXIF orientation of a file that can be read swaps its width and height."""
    with _opened(path, MAX_DATA_SET_PIXELS) as image:
        return _orientation(image) in _TURNED


def has_8_bits_in_more(path: str | os.PathLike, pixels: np.ndarray) -> bool:
    """Whether a file is black only because its 8-bit values stand in 16 or 32 bits, as a viewer shows it, too.

    Args:
        path: of a file that can be read.
        pixels: what :func:`read_image` returned, uint8; only a black one costs a second look at the file.
    """
    if pixels.any():
        return False
    limit = max(MAX_DATA_SET_PIXELS, pixels.shape[0] * pixels.shape[1])
    with _quiet_pil(limit), _opened(path, limit) as image:
        return image.mode.startswith("I") and 0 < np.asarray(image).max() < 256


def image_to_bgr(image: Image.Image) -> np.ndarray:
    """A PIL image of any mode, converted as :func:`read_image` does.

    Returns:
        (height, width, 3) BGR uint8, contiguous.

    Raises:
        InputError: if its values are not displayable.
    """
    return np.ascontiguousarray(convert_PIL_to_numpy(_as_shown(image), "BGR"))


@contextlib.contextmanager
def _opened(path: str | os.PathLike, max_pixels: int) -> Iterator[Image.Image]:
    """The file open; whatever goes wrong within becomes a sentence that names it."""
    path = Path(path)
    check_file(path)
    try:
        with Image.open(path, formats=_known_formats()) as image:
            if image.width * image.height > max_pixels:
                raise Image.DecompressionBombError
            yield image
    except Image.DecompressionBombError as error:
        advice = "raise max_pixels (--max-pixels) if it really is that large"
        if max_pixels >= MAX_DATA_SET_PIXELS:
            advice = "make it smaller, or cut it into tiles"
        raise UnreadableImageError(
            f"{path}: its header claims more than {max_pixels / 1e6:g} million pixels; {advice}"
        ) from error
    except UnidentifiedImageError as error:
        raise UnreadableImageError(f"{path}: it is no image of a known format") from error
    # A decoder raises whatever a damaged file leads it to: OSError, SyntaxError, struct.error, IndexError, ...
    except Exception as error:
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise UnreadableImageError(f"{path}: it cannot be read as an image ({reason})") from error


def check_file(path: Path) -> None:
    """Whether there is something to read, before a decoder says no more than that it cannot.

    Raises:
        UnreadableImageError: one sentence that names the file.
    """
    try:
        size = path.stat().st_size
        # A pipe or device might never end.
        if not path.is_file():
            raise UnreadableImageError(f"{path}: it is no regular file")
        if size == 0:
            raise UnreadableImageError(f"{path}: it is empty (zero bytes)")
        with path.open("rb"):
            pass
    except FileNotFoundError as error:
        raise UnreadableImageError(f"{path}: there is no such file") from error
    except OSError as error:
        raise UnreadableImageError(f"{path}: it cannot be read ({error.strerror})") from error


@contextlib.contextmanager
def _quiet_pil(max_pixels: int) -> Iterator[None]:
    """Without warnings on odd files, and with PIL's own limit out of the way where ours is higher."""
    with warnings.catch_warnings(), contextlib.ExitStack() as stack:
        warnings.simplefilter("ignore")
        limit = Image.MAX_IMAGE_PIXELS
        # PIL refuses at twice its limit.
        if limit is not None and max_pixels > 2 * limit:
            stack.enter_context(_LIMIT_LOCK)
            stack.callback(setattr, Image, "MAX_IMAGE_PIXELS", limit)
            Image.MAX_IMAGE_PIXELS = max_pixels
        yield


def _known_formats() -> list[str]:
    """Those that this PIL was built with; it raises KeyError on others."""
    Image.init()
    return [name for name in _FORMATS if name in Image.OPEN]


def _orientation(image: Image.Image) -> int | None:
    try:
        return image.getexif().get(_EXIF_ORIENTATION)
    # The image is then taken as it is, as Detectron2 takes it.
    except Exception:
        return None


def _is_turned(image: Image.Image) -> bool:
    """Whether the pixels will be turned against the size that PIL has from the header."""
    # PIL turns a TIFF itself, and says its size as turned from the start.
    return image.format != "TIFF" and _orientation(image) in _TURNED


def _as_shown(image: Image.Image) -> Image.Image:
    """In mode RGB."""
    # Before the orientation: some formats apply theirs while they load.
    image.load()
    image = _apply_exif_orientation(image)
    if image.mode == "F" or image.mode.startswith("I"):
        image = _gray_of_numbers(image)
    elif image.has_transparency_data:
        image = _on_white(image.convert("RGBA"))
    return image.convert("RGB")


def _gray_of_numbers(image: Image.Image) -> Image.Image:
    """Integers of 16 bits and floats in [0, 1], scaled to 8 bits.

    The type decides on the scale, never the values: an image must not look brighter for being dark all over.
    """
    values = np.asarray(image)
    low, high = values.min(), values.max()
    if image.mode == "F":
        # NaN fails the comparison, too.
        if not (low >= 0 and high <= 1):
            raise InputError("it has floating-point values beyond [0, 1], which no viewer can show")
        return Image.fromarray((values * 255 + 0.5).astype(np.uint8))
    if low < 0 or high > 65535:
        raise InputError(f"it has integers from {low} to {high}, more than the 16 bits of an image")
    return Image.fromarray((values // 257).astype(np.uint8))


def _on_white(image: Image.Image) -> Image.Image:
    white = Image.new("RGB", image.size, "white")
    white.paste(image, mask=image.getchannel("A"))
    return white
