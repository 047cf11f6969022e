"""Image files and PIL images as the BGR arrays that Detectron2's predictors take."""

import contextlib
import os
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from detectron2.data.detection_utils import _apply_exif_orientation
from PIL import Image, UnidentifiedImageError

MAX_PIXELS = 100_000_000
"""Pixels (width x height) that a header may claim before a file is refused unread."""

# What viewers and browsers show. Others of PIL's formats start another program (EPS), hold several kinds of data, or
# have no signature, so that any damaged file could be taken for one of them.
_FORMATS = (
    "JPEG", "MPO", "PNG", "GIF", "BMP", "DIB", "TIFF", "WEBP", "AVIF", "JPEG2000", "PPM", "ICO", "QOI",
)  # fmt: skip
_LIMIT_LOCK = threading.Lock()


def read_image(path: str | os.PathLike, *, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """An image file as a viewer shows it.

    The content decides on the format, whatever the name ends in. The EXIF orientation is applied, 16 bits are scaled
    to 8, transparent parts are white, the first frame of several is taken. Colour profiles are not applied, as in
    training.

    Args:
        path: the file.
        max_pixels: a file whose header claims more is refused before memory is allocated.

    Returns:
        (height, width, 3) BGR uint8, contiguous.

    Raises:
        ValueError: one sentence that names the file, if it cannot be read or has no displayable values.
    """
    path = Path(path)
    _check_file(path)
    try:
        with _quiet_pil(max_pixels), Image.open(path, formats=_known_formats()) as image:
            if image.width * image.height > max_pixels:
                raise Image.DecompressionBombError
            return image_to_bgr(image)
    except Image.DecompressionBombError as error:
        raise ValueError(
            f"{path}: its header claims more than {max_pixels / 1e6:g} million pixels; raise max_pixels "
            "(--max-pixels) if it really is that large"
        ) from error
    except UnidentifiedImageError as error:
        raise ValueError(f"{path}: it is no image of a known format") from error
    # A decoder raises whatever a damaged file leads it to: OSError, SyntaxError, struct.error, IndexError, ...
    except Exception as error:
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise ValueError(f"{path}: it cannot be read as an image ({reason})") from error


def image_to_bgr(image: Image.Image) -> np.ndarray:
    """A PIL image of any mode, converted as :func:`read_image` does.

    Returns:
        (height, width, 3) BGR uint8, contiguous.

    Raises:
        ValueError: if its values are not displayable.
    """
    # Before the orientation: some formats apply theirs while they load.
    image.load()
    image = _apply_exif_orientation(image)
    if image.mode == "F" or image.mode.startswith("I"):
        image = _gray_of_numbers(image)
    elif image.has_transparency_data:
        image = _on_white(image.convert("RGBA"))
    return np.ascontiguousarray(np.asarray(image.convert("RGB"))[:, :, ::-1])


def _check_file(path: Path) -> None:
    try:
        if not path.exists():
            raise ValueError(f"{path}: there is no such file")
        # A pipe or device might never end.
        if not path.is_file():
            raise ValueError(f"{path}: it is no regular file")
        if path.stat().st_size == 0:
            raise ValueError(f"{path}: it is empty (zero bytes)")
    except OSError as error:
        raise ValueError(f"{path}: it cannot be read ({error.strerror})") from error


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


def _gray_of_numbers(image: Image.Image) -> Image.Image:
    """Integers of 16 bits and floats in [0, 1], scaled to 8 bits."""
    values = np.asarray(image)
    low, high = values.min(), values.max()
    if image.mode == "F":
        # NaN fails the comparison, too.
        if not (low >= 0 and high <= 1):
            raise ValueError("it has floating-point values beyond [0, 1], which no viewer can show")
        return Image.fromarray((values * 255 + 0.5).astype(np.uint8))
    if low < 0 or high > 65535:
        raise ValueError(f"it has integers from {low} to {high}, more than the 16 bits of an image")
    return Image.fromarray((values // 257).astype(np.uint8))


def _on_white(image: Image.Image) -> Image.Image:
    white = Image.new("RGB", image.size, "white")
    white.paste(image, mask=image.getchannel("A"))
    return white
