"""Whether what an exported file gives is what the model gives."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from smca.errors import InputError
from smca.modeling import SMCA

from .graph import DETECTION_OUTPUTS, RAW_OUTPUTS, DetectionGraph

Run = Callable[[np.ndarray, np.ndarray], Mapping[str, np.ndarray]]
"""Takes images and sizes, gives outputs by name."""

TOLERANCE = 1e-4
"""Of logits and boxes in float32."""

CASES: tuple[tuple[Sequence[tuple[int, int]], tuple[int, int]], ...] = (
    (((75, 109),), (0, 0)),
    (((64, 96),), (0, 0)),
    (((33, 150),), (20, 7)),
    (((90, 61), (40, 101), (77, 77)), (0, 0)),
    (((131, 200),), (0, 0)),
)
"""(height, width) of the images of a batch, and how many rows and columns it is padded beyond the largest."""

SMALLEST_SIDE = min(side for sizes, _ in CASES for size in sizes for side in size)
_DRAWS = 8


@dataclass(frozen=True)
class Difference:
    """The largest one of an output from the model's, and the mean one.

    Attributes:
        output: its name.
        largest, mean: absolute, over all elements of all images; NaN where one of the two is not finite.
        where: the images of the largest.
    """

    output: str
    largest: float
    mean: float
    where: str


def compare(
    model: SMCA, run: Run, *, isolates: bool, scale: int = 1, draws: int = 1
) -> list[Difference]:
    """How far the outputs are from those of the model, on images of noise.

    Args:
        model: in evaluation mode.
        run: the exported file.
        isolates: compare with each image alone; else with the same batch, and leave out padding beyond it.
        scale: of the images' sides.
        draws: of each image, of which the best one counts.

    Returns:
        One per raw output.
    """
    parts = []
    generator = torch.Generator().manual_seed(0)
    for sizes, beyond in CASES:
        sizes = [(height * scale, width * scale) for height, width in sizes]
        best = None
        for _ in range(draws):
            images = [torch.randint(256, (3, *size), generator=generator).float() for size in sizes]
            batch = pad(images, beyond if isolates else (0, 0))
            outputs = run(batch.numpy(), np.array(sizes, dtype=np.int64))
            found = _differences(outputs, reference(model, images, isolates=isolates))
            best = found if best is None else _better(best, found)
            if best[:, 0].max() <= TOLERANCE:
                break
        parts.append((best, " ".join(f"{height}x{width}" for height, width in sizes)))
    return [_summed_up(index, parts) for index in range(len(RAW_OUTPUTS))]


def refuse_difference(differences: Sequence[Difference], *, tolerance: float = TOLERANCE) -> None:
    """Refuse outputs that are farther away.

    Raises:
        InputError: that names output, images and difference.
    """
    for item in differences:
        if not item.largest <= tolerance:
            raise InputError(
                f"the exported {item.output} differ from the model's by {item.largest:.2g} (allowed: {tolerance:g}) on "
                f"images of {item.where} pixels, so no file was written"
            )


def refuse_other_detections(graph: DetectionGraph, run: Run, *, scale: int = 1) -> None:
    """Refuse a file whose detections are not the best of its own logits and boxes, in padded batches.

    Args:
        graph: that gives detections.
        run: the exported file.
        scale: as of :func:`compare`.

    Raises:
        InputError: that names the output.
    """
    generator = torch.Generator().manual_seed(1)
    for sizes, _ in CASES:
        sizes = [(height * scale, width * scale) for height, width in sizes]
        images = [torch.randint(256, (3, *size), generator=generator).float() for size in sizes]
        outputs = run(pad(images).numpy(), np.array(sizes, dtype=np.int64))
        raw = (torch.from_numpy(outputs[name]) for name in RAW_OUTPUTS)
        expected = [values.numpy() for values in graph.detect(*raw, torch.tensor(sizes))]
        # Rounding may order detections otherwise that are as good as each other.
        gaps = -np.diff(expected[0], axis=1) > TOLERANCE
        is_apart = np.pad(gaps, ((0, 0), (1, 0)), constant_values=True)
        is_apart[:, :-1] &= gaps
        for name, values in zip(DETECTION_OUTPUTS, expected, strict=True):
            found = outputs[name]
            # In shares of the image for boxes.
            unit = np.max(sizes) if name == "pixel_boxes" else 1
            chosen = slice(None) if name == "scores" else is_apart
            if found.shape != values.shape or not np.allclose(
                found[chosen], values[chosen], rtol=0, atol=TOLERANCE * unit
            ):
                raise InputError(
                    f"the exported {name} are not those of its logits and boxes, so no file was written"
                )


def draws_needed(model: SMCA) -> int:
    """How many times an image is drawn.

    Where two cells are nearly as good as each other, rounding decides on their order for a model that selects its
    queries among the cells of an image, and so on all that follows: an export that is wrong is so for every image, one
    that is right for few.
    """
    # Sources of queries may wrap each other; one that selects knows how many it wants.
    selects = any(hasattr(part, "num_queries") for part in model.decoder.modules())
    return _DRAWS if selects else 1


@torch.no_grad()
def reference(model: SMCA, images: Sequence[Tensor], *, isolates: bool) -> dict[str, np.ndarray]:
    """Raw outputs by name as ``SMCA.forward`` has them, of images alone or in one batch.

    Args:
        images: B of (3, height, width), 0..255.
        isolates: whether alone.
    """
    batches = [[image] for image in images] if isolates else [images]
    parts = []
    for batch in batches:
        inputs = [{"image": image} for image in batch]
        prepared = model.preprocess_images(inputs, isolate=model.isolate_images)
        outputs, _ = model.run_network(prepared, isolate=model.isolate_images, last_layer_only=True)
        parts.append((outputs["pred_logits"][-1], outputs["pred_boxes"][-1]))
    joined = (torch.cat(values).numpy() for values in zip(*parts, strict=True))
    return dict(zip(RAW_OUTPUTS, joined, strict=True))


def pad(images: Sequence[Tensor], beyond: tuple[int, int] = (0, 0)) -> Tensor:
    """(3, height, width) images in one batch, zeros at the right and bottom, and ``beyond`` more rows and columns."""
    height = max(image.shape[1] for image in images) + beyond[0]
    width = max(image.shape[2] for image in images) + beyond[1]
    batch = torch.zeros(len(images), 3, height, width)
    for row, image in zip(batch, images, strict=True):
        row[:, : image.shape[1], : image.shape[2]] = image
    return batch


def _differences(
    outputs: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]
) -> np.ndarray:
    """(outputs, 2, B) largest and mean difference of each image."""
    found = []
    for name in RAW_OUTPUTS:
        a, b = outputs[name], expected[name]
        if a.shape != b.shape:
            raise InputError(f"the exported {name} have shape {a.shape}, the model's {b.shape}")
        finite = np.isfinite(a) & np.isfinite(b)
        difference = np.where(finite, np.abs(a.astype(np.float64) - b), np.nan)
        found.append([difference.max((1, 2)), difference.mean((1, 2))])
    return np.array(found)


def _better(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Of two draws each image's one with the smaller difference; one that is no number is never better."""
    is_better = b[:, 0].max(0) < np.nan_to_num(a[:, 0], nan=np.inf).max(0)
    return np.where(is_better, b, a)


def _summed_up(index: int, parts: Sequence[tuple[np.ndarray, str]]) -> Difference:
    largest, where = max(
        ((float(found[index, 0].max()), where) for found, where in parts),
        key=lambda part: math.inf if math.isnan(part[0]) else part[0],
    )
    mean = np.concatenate([found[index, 1] for found, _ in parts]).mean()
    return Difference(RAW_OUTPUTS[index], largest, float(mean), where)
