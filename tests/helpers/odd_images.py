"""Image files as they come from cameras, scanners, editors and broken disks, with what a viewer shows of them."""

import dataclasses
import io
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

EITHER = "either"
"""May be read or refused, such as a file with flipped bits; nothing else may happen."""


@dataclasses.dataclass(frozen=True)
class OddImage:
    """
    Attributes:
        path: the file.
        shown: (height, width, 3) RGB uint8, None if it must be refused, or EITHER.
        tolerance: largest mean absolute difference of a value, for lossy formats.
    """

    path: Path
    shown: np.ndarray | str | None
    tolerance: float = 0.0


def picture(height: int = 60, width: int = 90) -> np.ndarray:
    """(height, width, 3) RGB: smooth, and another one after any flip, turn or exchange of channels."""
    y, x = np.mgrid[0:height, 0:width]
    red = 40 + 200 * x / max(1, width - 1)
    green = 30 + 120 * y / max(1, height - 1)
    blue = np.where((x < width / 3) & (y < height / 2), 220, 20)
    return np.stack([red, green, blue], axis=-1).astype(np.uint8)


def turned(image: np.ndarray, orientation: int) -> np.ndarray:
    """What is stored so that a viewer that applies the EXIF orientation shows ``image``."""
    stored = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        8: lambda a: np.rot90(a, -1),
    }
    return np.ascontiguousarray(stored[orientation](image))


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def write_odd_images(folder: Path, count: int = 300, *, seed: int = 0) -> list[OddImage]:
    """``count`` files below ``folder``: all of the kinds once, then damaged ones."""
    rng = np.random.default_rng(seed)
    made = [
        OddImage(_write(folder, name, content), shown, tolerance)
        for name, content, shown, tolerance in [
            *_formats(), *_modes(), *_orientations(), *_sizes(), *_names(), *_refused()
        ]
    ]  # fmt: skip
    sources = list(_formats())
    while len(made) < count:
        name, content, _, _ = sources[len(made) % len(sources)]
        broken, shown = _damage(content, rng, lossless_end=name.endswith((".png", ".bmp", ".tif")))
        made.append(OddImage(_write(folder, f"damaged/{len(made):03d}_{name}", broken), shown))
    return made[:count]


def fake_size(kind: str, side: int = 60000) -> bytes:
    """A small file whose header claims side x side pixels."""
    content = bytearray(encoded(Image.fromarray(picture()), kind))
    if kind == "PNG":
        content[16:24] = struct.pack(">II", side, side)
        content[29:33] = struct.pack(">I", zlib.crc32(bytes(content[12:29])))
    elif kind == "BMP":
        content[18:26] = struct.pack("<ii", side, side)
    elif kind == "GIF":
        content[6:10] = struct.pack("<HH", side, side)
        at = content.index(b"\x2c", 10 + 3)
        content[at + 5 : at + 9] = struct.pack("<HH", side, side)
    elif kind == "JPEG":
        at = content.index(b"\xff\xc0")
        content[at + 5 : at + 9] = struct.pack(">HH", side, side)
    elif kind == "PPM":
        content = bytearray(f"P6 {side} {side} 255\n".encode() + bytes(300))
    return bytes(content)


def _formats():
    image = Image.fromarray(picture())
    lossless = ("PNG", "BMP", "TIFF", "PPM")
    for kind, suffix in zip(lossless, ("png", "bmp", "tif", "ppm"), strict=True):
        yield f"plain.{suffix}", encoded(image, kind), picture(), 0
    yield "plain.jpg", encoded(image, "JPEG", quality=95), picture(), 4
    yield "progressive.jpeg", encoded(image, "JPEG", quality=95, progressive=True), picture(), 4
    yield "plain.webp", encoded(image, "WEBP", lossless=True), picture(), 0
    yield "plain.gif", encoded(image, "GIF"), picture(), 12
    yield "lzw.tiff", encoded(image, "TIFF", compression="tiff_lzw"), picture(), 0


def _modes():
    shown = picture()
    image = Image.fromarray(shown)
    gray = shown[..., 0]
    as_gray = np.repeat(gray[..., None], 3, -1)
    wide = gray.astype(np.uint16) * 257
    yield "gray.png", encoded(Image.fromarray(gray), "PNG"), as_gray, 0
    yield "16_bit.png", encoded(Image.fromarray(wide), "PNG"), as_gray, 0
    yield "16_bit.tif", encoded(Image.fromarray(wide), "TIFF"), as_gray, 0
    yield "16_bit_rgb.png", _png_16_bit_rgb(shown), shown, 0
    yield "int32.tif", encoded(Image.fromarray(wide.astype(np.int32)), "TIFF"), as_gray, 0
    unit = (gray / 255).astype(np.float32)
    yield "float_0_1.tif", encoded(Image.fromarray(unit), "TIFF"), as_gray, 0
    black_and_white = np.where(as_gray > 127, 255, 0).astype(np.uint8)
    one_bit = Image.fromarray(black_and_white[..., 0]).convert("1")
    yield "1_bit.png", encoded(one_bit, "PNG"), black_and_white, 0
    yield "1_bit.tif", encoded(one_bit, "TIFF", compression="group4"), black_and_white, 0
    yield "cmyk.jpg", encoded(image.convert("CMYK"), "JPEG", quality=95), shown, 6
    yield "cmyk.tif", encoded(image.convert("CMYK"), "TIFF"), shown, 1
    palette = image.quantize(64)
    yield "palette.png", encoded(palette, "PNG"), np.asarray(palette.convert("RGB")), 0
    first = np.asarray(palette) == 0
    on_white = np.where(first[..., None], 255, np.asarray(palette.convert("RGB"))).astype(np.uint8)
    yield "palette_transparent.png", encoded(palette, "PNG", transparency=0), on_white, 0
    alpha = np.zeros_like(gray)
    alpha[:, :30], alpha[:, 30:60] = 255, 128
    weight = alpha[..., None] / 255
    blended = np.round(shown * weight + 255 * (1 - weight)).astype(np.uint8)
    rgba = Image.fromarray(np.dstack([shown, alpha]))
    yield "alpha.png", encoded(rgba, "PNG"), blended, 1
    yield "alpha.webp", encoded(rgba, "WEBP", lossless=True, exact=True), blended, 1
    gray_alpha = Image.merge("LA", [Image.fromarray(gray), Image.fromarray(alpha)])
    gray_blended = np.round(as_gray * weight + 255 * (1 - weight)).astype(np.uint8)
    yield "gray_alpha.png", encoded(gray_alpha, "PNG"), gray_blended, 1
    frames = [Image.new("RGB", image.size, color) for color in ("red", "lime", "blue")]
    red = np.broadcast_to(np.uint8([255, 0, 0]), shown.shape)
    yield "animated.gif", encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]), red, 0
    yield "animated.png", encoded(frames[0], "PNG", save_all=True, append_images=frames[1:]), red, 0


def _orientations():
    for orientation in range(1, 9):
        stored = Image.fromarray(turned(picture(), orientation))
        exif = Image.Exif()
        exif[0x0112] = orientation
        for kind, suffix, tolerance in (("JPEG", "jpg", 4), ("PNG", "png", 0), ("TIFF", "tif", 0)):
            content = encoded(stored, kind, exif=exif, **({"quality": 95} if tolerance else {}))
            yield f"exif/{orientation}.{suffix}", content, picture(), tolerance


def _sizes():
    for height, width in ((1, 1), (10, 20000), (20000, 10), (1, 300), (3000, 2)):
        shown = picture(height, width)
        yield f"size_{height}x{width}.png", encoded(Image.fromarray(shown), "PNG"), shown, 0


def _names():
    content = encoded(Image.fromarray(picture()), "PNG")
    for name in (
        "a name with  spaces.png", "größe 画像 🦆.png", "really_a_png.jpg", "no_suffix", "two.dots.png",
        "-dash.png", "per%20cent %s {}.png", "quote'\".png", "[brackets]*.png", "a/x.png", "b/x.png",
    ):  # fmt: skip
        yield f"names/{name}", content, picture(), 0


def _refused():
    yield "zero_bytes.jpg", b"", None, 0
    yield "text.png", b"this is no image\n" * 20, None, 0
    yield "page.jpg", b"<!doctype html><title>404</title>", None, 0
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n"
    yield "program.eps", postscript, None, 0
    beyond = np.full((9, 9), 1e6, np.float32)
    yield "float.tif", encoded(Image.fromarray(beyond), "TIFF"), None, 0
    for kind in ("PNG", "BMP", "GIF", "JPEG", "PPM"):
        yield f"claims_60000.{kind.lower()}", fake_size(kind), None, 0


def _damage(content: bytes, rng: np.random.Generator, *, lossless_end: bool):
    """A file cut off, overwritten with noise in one place, or replaced by noise."""
    way = rng.integers(4)
    if way <= 1:
        cut = int(rng.integers(1, len(content)))
        # Without the last few bytes a file may still be whole; without half of them it is not.
        return content[:cut], None if lossless_end and cut < len(content) // 2 else EITHER
    if way == 2:
        noisy, at = bytearray(content), int(rng.integers(len(content)))
        noise = rng.bytes(int(rng.integers(1, 20)))
        noisy[at : at + len(noise)] = noise
        return bytes(noisy), EITHER
    return rng.bytes(int(rng.integers(1, 3000))), EITHER


def _png_16_bit_rgb(image: np.ndarray) -> bytes:
    """PIL reads these, but does not write them."""
    height, width = image.shape[:2]
    rows = (image.astype(">u2") * 257).astype(">u2")
    data = b"".join(b"\0" + row.tobytes() for row in rows)
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(data)),
        (b"IEND", b""),
    )
    body = b"".join(
        struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body


def _write(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path
