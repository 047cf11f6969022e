"""What a digits data set looks like: every setting that decides its bytes."""

from __future__ import annotations

import dataclasses
import json

from smca.errors import InputError

SPLITS = ("train", "val")
CLASSES = tuple(str(digit) for digit in range(10))


@dataclasses.dataclass(frozen=True, kw_only=True)
class DigitsSpec:
    """Settings of a digits data set; equal specs give equal files on equal library versions.

    The defaults are sized so that a small detector trained from scratch on two CPU cores gets far
    in ten minutes; undimmed, sharp photos and digits of any brightness are much harder.

    Attributes:
        image_height, image_width: largest size of an image, pixels.
        varied_fraction: share of images in [0, 1] with one side shortened, so that a batch holds
            images of several sizes and aspect ratios.
        min_aspect: a shortened side is at least this share of its full length.
        train_images, val_images: number of images per split.
        digit_min, digit_max: long side of a pasted digit, pixels.
        max_objects: most digits in one image; an image with digits draws 1..max_objects.
        empty_fraction: share of images in [0, 1] without any digit.
        max_overlap: largest intersection of two boxes over the area of the smaller one.
        max_rotation, max_shear: digits are turned by up to this many degrees and sheared by up to
            this much of their height, both ways.
        max_stretch: width and height are scaled apart by up to this factor.
        min_brightness: lowest HSV value of a digit's tint, in [0, 1].
        max_saturation: highest HSV saturation of a digit's tint, in [0, 1].
        min_opacity: lowest opacity of a digit, in [0, 1].
        blur: Gaussian sigma on the photos, in pixels of the photo.
        dim: factor on the photos' brightness.
        jpeg_quality: 1..100.
        seed: every image has a generator of its own, seeded from (seed, split, index).

    Raises:
        InputError: a setting is out of range; the sentence names it.
    """

    image_height: int = 128
    image_width: int = 128
    varied_fraction: float = 0.5
    min_aspect: float = 0.75
    train_images: int = 4000
    val_images: int = 500
    digit_min: int = 14
    digit_max: int = 56
    max_objects: int = 6
    empty_fraction: float = 0.05
    max_overlap: float = 0.1
    max_rotation: float = 12.0
    max_shear: float = 0.15
    max_stretch: float = 1.35
    min_brightness: float = 0.8
    max_saturation: float = 0.5
    min_opacity: float = 0.8
    blur: float = 2.0
    dim: float = 0.55
    jpeg_quality: int = 95
    seed: int = 0

    def __post_init__(self) -> None:
        shortest = int(self.min_aspect * min(self.image_height, self.image_width))
        _in_range(self, "image_height", 16, 65500)
        _in_range(self, "image_width", 16, 65500)
        for name in ("train_images", "val_images"):
            _in_range(self, name, 1, 999_999)
        _in_range(self, "min_aspect", 0.1, 1.0)
        _in_range(self, "digit_min", 6, self.digit_max)
        _in_range(self, "digit_max", self.digit_min, shortest)
        _in_range(self, "max_objects", 1, 1000)
        _in_range(self, "max_rotation", 0.0, 45.0)
        _in_range(self, "max_shear", 0.0, 0.5)
        _in_range(self, "max_stretch", 1.0, 3.0)
        _in_range(self, "blur", 0.0, 50.0)
        _in_range(self, "jpeg_quality", 1, 100)
        _in_range(self, "seed", 0, 2**32 - 1)
        for name in ("varied_fraction", "empty_fraction", "max_overlap", "dim"):
            _in_range(self, name, 0.0, 1.0)
        for name in ("min_brightness", "max_saturation", "min_opacity"):
            _in_range(self, name, 0.05 if name.startswith("min") else 0.0, 1.0)

    def num_images(self, split: str) -> int:
        """Number of images of `split`, "train" or "val"."""
        return {"train": self.train_images, "val": self.val_images}[split]

    def as_json(self) -> dict[str, int | float]:
        """The settings as a JSON reader would give them back."""
        return json.loads(json.dumps(dataclasses.asdict(self)))


def _in_range(spec: DigitsSpec, name: str, low: float, high: float) -> None:
    value = getattr(spec, name)
    if not low <= value <= high:
        raise InputError(f"DigitsSpec.{name} must be between {low} and {high}, not {value}.")
