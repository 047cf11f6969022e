"""Predicts with a file of ``smca-export``, without PyTorch: needs onnxruntime, numpy and Pillow, and no other file.

    predictor = Predictor("model.onnx", threshold=0.5)
    found = predictor("photo.jpg")
    print(found.names, found.scores, found.boxes)

Or, for people: ``python smca_runtime.py model.onnx photo.jpg``. Detections are those of Detectron2's
``DefaultPredictor``; this file may be copied to where it is needed.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

MAX_PIXELS = 100_000_000
"""Pixels (width x height) that an image file may claim."""

ImageLike = np.ndarray | Image.Image | str | os.PathLike
"""(height, width, 3) BGR uint8 as OpenCV reads it, a PIL image of any mode, or a path."""


class RuntimeInputError(ValueError):
    """A file or an argument that cannot be used; one sentence says which and why."""


@dataclass(frozen=True)
class Detections:
    """Of one image, best first.

    Attributes:
        boxes: (D, 4) float32 (x1, y1, x2, y2) in pixels of the image.
        scores: (D,) float32.
        classes: (D,) int64.
        names: of the classes; numbers where the model knows none.
    """

    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray
    names: list[str]

    def __len__(self) -> int:
        return len(self.scores)


class Predictor:
    """An exported detector.

    Attributes:
        class_names: of classes 0 .. K-1; empty if they are not known.
        channel_order: "RGB" or "BGR", that the model takes.
        min_size, max_size: pixels that the short side is resized to, unless the long side would exceed the second.
        description: all of the file's metadata.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        *,
        threshold: float = 0.0,
        max_detections: int | None = None,
        threads: int | None = None,
        providers: Sequence[str] = ("CPUExecutionProvider",),
    ):
        """
        Args:
            path: the ONNX file.
            threshold: lowest score of a detection.
            max_detections: most of an image; by default what the file says.
            threads: of an operator; None leaves it to onnxruntime.
            providers: onnxruntime's names of where to run.

        Raises:
            RuntimeInputError: if the file is not of ``smca-export``, or an argument is out of range.
        """
        if not 0 <= threshold <= 1:
            raise RuntimeInputError(f"threshold is {threshold!r}, it must be between 0 and 1")
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        if threads is not None:
            options.intra_op_num_threads = threads
        try:
            self._session = onnxruntime.InferenceSession(os.fspath(path), options, list(providers))
        # Of a class of its own for each reason, none of which is public.
        except Exception as error:
            reason = str(error).strip().split("\n")[0]
            raise RuntimeInputError(f"{path} cannot be run ({reason})") from error
        self._outputs = [output.name for output in self._session.get_outputs()]
        self.description = dict(self._session.get_modelmeta().custom_metadata_map)
        if "smca_version" not in self.description:
            raise RuntimeInputError(f"{path} is no file of smca-export, or lost its metadata")
        self.class_names = json.loads(self.description["class_names"])
        self.channel_order = self.description["channel_order"]
        self.min_size = int(self.description["min_size"])
        self.max_size = int(self.description["max_size"])
        self.threshold = threshold
        limit = int(self.description["max_detections"])
        self.max_detections = limit if max_detections is None else max_detections
        if self.max_detections < 1:
            raise RuntimeInputError(f"max_detections is {max_detections!r}, it must be at least 1")
        self._select = _SELECT.get(self.description["classification"])
        if self._select is None and "scores" not in self._outputs:
            raise RuntimeInputError(
                f"{path} classifies in a way of its own; export it with --detections"
            )

    def __call__(self, image: ImageLike) -> Detections:
        """Detections of an image.

        Raises:
            RuntimeInputError: if it cannot be read, or is of another form.
        """
        return self.batch([image])[0]

    def batch(self, images: Sequence[ImageLike]) -> list[Detections]:
        """Detections of several images, in one padded batch.

        Raises:
            RuntimeInputError: if one cannot be read, or is of another form.
        """
        if isinstance(images, str | os.PathLike):
            raise RuntimeInputError(
                "batch takes several images; call the predictor with one, or give a list"
            )
        if not images:
            return []
        arrays = [as_bgr(image) for image in images]
        resized = [resize(array, self.min_size, self.max_size) for array in arrays]
        sizes = np.array([array.shape[:2] for array in resized], dtype=np.int64)
        height, width = sizes.max(0)
        pixels = np.zeros((len(images), 3, height, width), dtype=np.float32)
        for row, array in zip(pixels, resized, strict=True):
            ordered = array[:, :, ::-1] if self.channel_order == "RGB" else array
            row[:, : array.shape[0], : array.shape[1]] = ordered.transpose(2, 0, 1)
        values = self._session.run(None, {"images": pixels, "sizes": sizes})
        outputs = dict(zip(self._outputs, values, strict=True))
        return [
            self._detections({name: value[index] for name, value in outputs.items()}, array, size)
            for index, (array, size) in enumerate(zip(arrays, sizes, strict=True))
        ]

    def _detections(
        self, outputs: dict[str, np.ndarray], image: np.ndarray, size: np.ndarray
    ) -> Detections:
        """Of one image's outputs; ``size`` is (height, width) as it was resized."""
        height, width = image.shape[:2]
        if "scores" in outputs:
            scores, classes = outputs["scores"], outputs["classes"]
            boxes = outputs["pixel_boxes"] * np.tile([width / size[1], height / size[0]], 2)
        else:
            scores, classes, queries = self._select(outputs["logits"], self.max_detections)
            center, side = np.split(outputs["boxes"][queries], 2, axis=1)
            corners = np.concatenate([center - side / 2, center + side / 2], axis=1)
            boxes = corners * np.tile([width, height], 2)
        boxes = np.clip(boxes, 0, np.tile([width, height], 2)).astype(np.float32)
        kept = (boxes[:, 2:] > boxes[:, :2]).all(1) & (scores >= self.threshold)
        kept = np.flatnonzero(kept)[: self.max_detections]
        names = [self._name(int(number)) for number in classes[kept]]
        return Detections(boxes[kept], scores[kept], classes[kept], names)

    def _name(self, number: int) -> str:
        return self.class_names[number] if number < len(self.class_names) else str(number)


def as_bgr(image: ImageLike) -> np.ndarray:
    """(height, width, 3) BGR uint8 of an image as a viewer shows it.

    The EXIF orientation is applied, 16 bits are scaled to 8, transparent parts are white.

    Raises:
        RuntimeInputError: if it cannot be read, or is of another form.
    """
    if isinstance(image, str | os.PathLike):
        try:
            with Image.open(image) as opened:
                if opened.width * opened.height > MAX_PIXELS:
                    raise RuntimeInputError(f"it claims more than {MAX_PIXELS} pixels")
                return as_bgr(opened)
        # A decoder raises whatever a damaged file leads it to.
        except Exception as error:
            raise RuntimeInputError(f"{image} cannot be read as an image ({error})") from error
    if isinstance(image, Image.Image):
        return np.ascontiguousarray(np.asarray(_as_rgb(image))[:, :, ::-1])
    is_array = isinstance(image, np.ndarray) and image.dtype == np.uint8
    if not is_array or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        said = f"an array of {image.dtype} {image.shape}" if hasattr(image, "dtype") else image
        raise RuntimeInputError(f"the image is {said!r}, it must be uint8 (height, width, 3), BGR")
    return image


def resize(image: np.ndarray, min_size: int, max_size: int) -> np.ndarray:
    """So that the short side has ``min_size`` pixels and the long one ``max_size`` at most, bilinear, antialiased."""
    height, width = image.shape[:2]
    scale = min_size / min(height, width)
    # In this order: each product is rounded, and halves decide on a pixel.
    sides = (min_size, scale * width) if height < width else (scale * height, min_size)
    if max(sides) > max_size:
        shrink = max_size / max(sides)
        sides = (sides[0] * shrink, sides[1] * shrink)
    new_height, new_width = (max(1, int(side + 0.5)) for side in sides)
    picture = Image.fromarray(np.ascontiguousarray(image))
    return np.asarray(picture.resize((new_width, new_height), Image.Resampling.BILINEAR))


def _as_rgb(image: Image.Image) -> Image.Image:
    # Before the orientation: some formats apply theirs while they load.
    image.load()
    image = ImageOps.exif_transpose(image)
    if image.mode == "F" or image.mode.startswith("I"):
        values = np.asarray(image)
        if image.mode == "F":
            if not (values.min() >= 0 and values.max() <= 1):
                raise RuntimeInputError("it has floating-point values beyond [0, 1]")
            image = Image.fromarray((values * 255 + 0.5).astype(np.uint8))
        else:
            if values.min() < 0 or values.max() > 65535:
                raise RuntimeInputError("it has integers of more than 16 bits")
            image = Image.fromarray((values // 257).astype(np.uint8))
    elif image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGB", image.size, "white")
        white.paste(image, mask=image.getchannel("A"))
        image = white
    return image.convert("RGB")


def _select_sigmoid(logits: np.ndarray, limit: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The best (query, class) pairs of (Q, K) logits: scores, classes, queries."""
    flat = logits.ravel()
    best = np.argsort(-flat, kind="stable")[:limit]
    queries, classes = np.divmod(best, logits.shape[1])
    return _sigmoid(flat[best]), classes, queries


def _select_softmax(logits: np.ndarray, limit: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Each query's best class but the last, "no object"."""
    exponents = np.exp(logits - logits.max(1, keepdims=True))
    probabilities = (exponents / exponents.sum(1, keepdims=True))[:, :-1]
    classes, scores = probabilities.argmax(1), probabilities.max(1)
    best = np.argsort(-scores, kind="stable")[:limit]
    return scores[best], classes[best], best


def _sigmoid(values: np.ndarray) -> np.ndarray:
    # The exponent of a number that is not positive cannot overflow.
    small = np.exp(-np.abs(values))
    return np.where(values >= 0, 1, small) / (1 + small)


_SELECT = {"sigmoid": _select_sigmoid, "softmax": _select_softmax}


def main(argv: Sequence[str] | None = None) -> int:
    """Prints what is found with a score of at least 0.5; returns the exit status."""
    args = sys.argv[1:] if argv is None else argv
    if len(args) < 2:
        print("usage: python smca_runtime.py MODEL.onnx IMAGE ...", file=sys.stderr)
        return 2
    try:
        predictor = Predictor(args[0], threshold=0.5)
        for path in args[1:]:
            found = predictor(path)
            print(f"{path}: {len(found)} found")
            for box, score, name in zip(found.boxes, found.scores, found.names, strict=True):
                print(f"  {name} {score:.2f}  " + " ".join(f"{value:.1f}" for value in box))
    except RuntimeInputError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
