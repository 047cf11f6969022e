"""Where the digits and the photographs come from, and how both are split in train and val."""

from __future__ import annotations

import dataclasses

import numpy as np
from PIL import Image
from scipy import ndimage

from smca.errors import InputError

from .spec import CLASSES, DigitsSpec

# Columns [start, end) of each photo: both splits see the pagoda's or the flower's edge, sky or
# leaves, and never a common pixel.
PHOTO_COLUMNS = {
    "train": {"china.jpg": (0, 440), "flower.jpg": (240, 640)},
    "val": {"china.jpg": (440, 640), "flower.jpg": (0, 240)},
}
TRAIN_SHARE = 0.8  # of the samples of every class
LICENSES = [
    {
        "id": 1,
        "name": "Photographs: Creative Commons Attribution 2.0, by danielbuechele and vultilion",
        "url": "https://creativecommons.org/licenses/by/2.0/",
    },
    {
        "id": 2,
        "name": "Digits: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, "
        "UCI, Creative Commons Attribution 4.0",
        "url": "https://archive.ics.uci.edu/dataset/80/optical+recognition+of+handwritten+digits",
    },
]
_UPSCALE = 8
_RING = 2  # empty cells around a digit, so that a turned one does not leave the frame


@dataclasses.dataclass(frozen=True)
class DigitSources:
    """Raw material of the images.

    Attributes:
        glyphs: (N, 96, 96) uint8, the smoothly enlarged ink of every handwritten sample.
        samples: split -> one index array into `glyphs` per class.
        photos: split -> photo regions, (H, W, 3) float32 RGB in [0, 255], blurred and dimmed.
    """

    glyphs: np.ndarray
    samples: dict[str, list[np.ndarray]]
    photos: dict[str, list[np.ndarray]]


def load_sources(spec: DigitsSpec) -> DigitSources:
    """Reads scikit-learn's digits and photographs and prepares them for `spec`.

    Raises:
        InputError: scikit-learn is missing.
    """
    try:
        from sklearn.datasets import load_digits, load_sample_image
    except ImportError as error:
        raise InputError(
            "The digits data set is made from scikit-learn's digits and photographs, and "
            "scikit-learn is not installed: pip install 'smca[demo]'"
        ) from error

    raw = load_digits()
    samples: dict[str, list[np.ndarray]] = {"train": [], "val": []}
    for label in range(len(CLASSES)):
        # In file order the samples of one writer lie together, so a cut shares few writers.
        indices = np.flatnonzero(raw.target == label)
        cut = round(TRAIN_SHARE * len(indices))
        samples["train"].append(indices[:cut])
        samples["val"].append(indices[cut:])

    photos: dict[str, list[np.ndarray]] = {"train": [], "val": []}
    for split, columns in PHOTO_COLUMNS.items():
        for name, (start, end) in columns.items():
            # Cut before the blur: blurring the whole photo would mix pixels across the cut.
            region = load_sample_image(name)[:, start:end].astype(np.float32)
            blurred = ndimage.gaussian_filter(region, (spec.blur, spec.blur, 0), mode="nearest")
            photos[split].append(np.clip(blurred, 0, 255) * np.float32(spec.dim))
    glyphs = np.stack([_enlarge(image) for image in raw.images])
    return DigitSources(glyphs=glyphs, samples=samples, photos=photos)


def _enlarge(image: np.ndarray) -> np.ndarray:
    """(8, 8) ink in [0, 16] -> (96, 96) uint8 with smooth strokes."""
    padded = np.pad(image.astype(np.float32) / 16, _RING)
    side = padded.shape[0] * _UPSCALE
    smooth = np.asarray(Image.fromarray(padded).resize((side, side), Image.BICUBIC))
    # A steeper edge than the 8x8 grid has, or large digits look like clouds.
    return (np.clip((smooth - 0.2) / 0.5, 0, 1) * 255).astype(np.uint8)
