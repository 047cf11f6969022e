"""Detections of images of any sizes, batched where their resized shapes are equal."""

from __future__ import annotations

import contextlib
import dataclasses
import numbers
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from detectron2.structures import Boxes, Instances
from torch import nn

from smca.checkpoint import ModelInfo
from smca.compilation import compile_parts
from smca.data.image_file import MAX_PIXELS
from smca.device import autocast_dtype, find_device
from smca.errors import InputError

from .ahead import map_ahead
from .fold_norms import fold_norms
from .prepared_image import ImageLike, PreparedImage, pixels_of
from .trained_model import limit_detections, load_checkpoint, load_config

_CPU_BATCH_PIXELS = 1 << 18
"""Of a batch's resized images on a CPU; larger batches were slower there than single images."""

_BATCHES_AHEAD = 4
_PIXELS_AHEAD = 50_000_000
"""Of images in their own size that wait for others of their resized shape; a caller may keep them meanwhile."""


@dataclasses.dataclass
class _Pending:
    """An image that waits for its batch; ``result`` is None until that has run."""

    image: PreparedImage
    result: Instances | None = None


class Predictor:
    """A trained detector, as Detectron2's ``DefaultPredictor`` but for one image or many.

    Only images whose resized shapes are equal share a batch, so none is padded, and results are those of single images.

    Attributes:
        model: the detector, in evaluation mode.
        class_names: of classes 0 .. K-1; empty if they are not known.
        class_ids: their category ids in the data set of the training; empty if they are not known.
        device: where it runs.
        ahead: how many images are read, resized or drawn by a thread while the model runs; 0 where the model's own
            threads have all processors, which others would slow down.
    """

    def __init__(
        self,
        *,
        model: nn.Module,
        class_names: Sequence[str] = (),
        class_ids: Sequence[int | str] = (),
        min_size: int = 800,
        max_size: int = 1333,
        input_format: str | None = None,
        device: str | torch.device = "auto",
        precision: str = "float32",
        threshold: float = 0.0,
        batch_size: int = 8,
        max_pixels: int = MAX_PIXELS,
        compile: bool = False,
    ):
        """
        Args:
            model: takes Detectron2's ``batched_inputs``; it is moved to the device and set to evaluation.
            class_names, class_ids: of classes 0 .. K-1, see above.
            min_size, max_size: pixels that the short side is resized to, unless the long side would exceed the second.
            input_format: channel order that the model takes, "RGB" or "BGR"; by default the model's own.
            device: "auto" is "cuda" where there is one, else "cpu".
            precision: "float32", or "bfloat16" or "float16" (on a GPU only) by autocast.
            threshold: lowest score of a detection.
            batch_size: most images at a time; on a CPU large images come in smaller batches, which are faster there.
            max_pixels: image files that claim more are refused.
            compile: the model by ``torch.compile``: faster in bfloat16, after about a minute at the first image, and
                again at the first batch of several; numbers differ in rounding.

        Raises:
            InputError: if an argument is of another type or out of its range, the device is not there, or ``compile``
                is for another kind of model or has no compiler.
        """
        sizes = {"min_size": min_size, "max_size": max_size}
        for name, value in {"batch_size": batch_size, **sizes, "max_pixels": max_pixels}.items():
            _check_count(name, value)
        if not (_is_number(threshold, numbers.Real) and 0 <= threshold <= 1):
            raise InputError(f"threshold is {threshold!r}, it must be a number between 0 and 1")
        self.device = find_device(device)
        self._autocast_dtype = autocast_dtype(precision, self.device)
        self.input_format = input_format or getattr(model, "input_format", None) or "BGR"
        if self.input_format not in ("RGB", "BGR"):
            raise InputError(f"input_format is {self.input_format!r}, it must be RGB or BGR")
        self.model = model.eval().to(self.device)
        if compile:
            compile_parts(self.model)
        self.class_names = list(class_names)
        self.class_ids = list(class_ids)
        self.min_size, self.max_size = min_size, max_size
        self.threshold = threshold
        self.batch_size = batch_size
        self.max_pixels = max_pixels
        self.ahead = int(
            self.device.type != "cpu" or torch.get_num_threads() < _usable_processors()
        )

    @classmethod
    def from_checkpoint(
        cls, source: str | os.PathLike, *, max_detections: int | None = None, **options
    ) -> Predictor:
        """A published checkpoint, or any other that describes its model.

        Args:
            source: a file, a URL, "detectron2://" and a name of Detectron2's, or "smca://" and a published name.
            max_detections: most detections per image, by default the config's.
            options: ``device``, ``precision``, ``threshold``, ``batch_size`` and others of the constructor.

        Raises:
            InputError: one sentence, if the file cannot be read, or does not describe its model.
        """
        return cls._from_loaded(*load_checkpoint(os.fspath(source)), max_detections, options)

    @classmethod
    def from_config(
        cls,
        config: str | os.PathLike,
        weights: str | os.PathLike,
        *,
        max_detections: int | None = None,
        **options,
    ) -> Predictor:
        """A checkpoint of the model of a config.

        Args:
            config: name in the model zoo, or a LazyConfig's .py file.
            weights: as ``source`` of :meth:`from_checkpoint`; it need not describe its model, and released DETR and
                SMCA checkpoints will do.
            max_detections, options: as for :meth:`from_checkpoint`.

        Raises:
            InputError: one sentence, if one of the two cannot be read, or the weights are not the model's.
        """
        loaded = load_config(os.fspath(config), os.fspath(weights))
        return cls._from_loaded(*loaded, max_detections, options)

    @classmethod
    def _from_loaded(
        cls, model: nn.Module, info: ModelInfo, max_detections: int | None, options: dict
    ) -> Predictor:
        if max_detections is not None:
            _check_count("max_detections", max_detections)
            limit_detections(model, max_detections)
        fold_norms(model)
        # The model computes in this layout; weights that are in it need no conversion per image.
        model.to(memory_format=torch.channels_last)
        settings = {
            "class_names": info.class_names,
            "class_ids": info.class_ids,
            "min_size": info.min_size_test,
            "max_size": info.max_size_test,
        }
        return cls(model=model, **{**settings, **options})

    def __call__(self, images: ImageLike | Iterable[ImageLike]) -> Instances | list[Instances]:
        """Detections of one image, or of many, several at a time.

        Args:
            images: one image or any number of them.

        Returns:
            Per image, on the CPU, ``pred_boxes`` (xyxy in pixels of the image itself), ``scores`` and ``pred_classes``,
            best score first; a list for anything but one image.

        Raises:
            InputError: if an image cannot be read or is of another form.
        """
        if isinstance(images, ImageLike):
            pending = self._prepare((0, images))
            self._run([pending])
            return pending.result
        return list(self.stream(images))

    def stream(
        self, images: Iterable[ImageLike], *, ahead: int | None = None
    ) -> Iterator[Instances]:
        """Detections of each image, in order, while the images still come.

        Few images are held at a time: as many as make four batches, or 50 million pixels, and those that are prepared.

        Args:
            images: as for a call.
            ahead: instead of the predictor's own. With 0, and batches of one image, an image is asked for only after
                the one before it has its result, as a camera needs it, or whoever answers before the next is sent.

        Raises:
            InputError: as for a call.
        """
        if isinstance(images, ImageLike):
            raise InputError(
                "stream takes many images; call the predictor with one, or give a list"
            )
        ahead = self.ahead if ahead is None else ahead
        waiting: deque[_Pending] = deque()
        groups: dict[tuple[int, ...], list[_Pending]] = {}
        for pending in map_ahead(self._prepare, self._taken(images, ahead), ahead=ahead):
            waiting.append(pending)
            group = groups.setdefault(pending.image.shape, [])
            group.append(pending)
            if len(group) == self._batch_size_of(pending):
                self._run(groups.pop(pending.image.shape))
            while waiting and (waiting[0].result is not None or self._is_enough(waiting)):
                yield self._next_result(waiting, groups)
        while waiting:
            yield self._next_result(waiting, groups)

    def batched_input(self, image: ImageLike) -> dict:
        """What the model is given of one image, an entry of Detectron2's ``batched_inputs``.

        Raises:
            InputError: as for a call.
        """
        return self._prepare((0, image)).image.as_input()

    def _batch_size_of(self, pending: _Pending) -> int:
        if self.device.type != "cpu":
            return self.batch_size
        _, height, width = pending.image.shape
        return max(1, min(self.batch_size, _CPU_BATCH_PIXELS // (height * width)))

    def _is_enough(self, waiting: Sequence[_Pending]) -> bool:
        pixels = sum(
            height * width for height, width in (pending.image.size for pending in waiting)
        )
        return len(waiting) >= _BATCHES_AHEAD * self.batch_size or pixels >= _PIXELS_AHEAD

    def _next_result(
        self, waiting: deque[_Pending], groups: dict[tuple[int, ...], list[_Pending]]
    ) -> Instances:
        first = waiting.popleft()
        if first.result is None:
            self._run(groups.pop(first.image.shape))
        return first.result

    def _taken(self, images: Iterable[ImageLike], ahead: int) -> Iterator[tuple[int, ImageLike]]:
        """Images with their numbers; what is no file is copied, as its owner may use the memory for the next one."""
        for number, image in enumerate(images):
            is_file = isinstance(image, str | os.PathLike)
            yield number, image if is_file or not ahead else self._pixels(number, image).copy()

    def _pixels(self, number: int, image: ImageLike) -> np.ndarray:
        return pixels_of(image, f"image {number}", max_pixels=self.max_pixels)

    def _prepare(self, numbered: tuple[int, ImageLike]) -> _Pending:
        pixels = self._pixels(*numbered)
        if self.input_format == "RGB":
            pixels = pixels[:, :, ::-1]
        return _Pending(PreparedImage.resized(pixels, self.min_size, self.max_size))

    @torch.no_grad()
    def _run(self, batch: Sequence[_Pending]) -> None:
        autocast = contextlib.nullcontext()
        if self._autocast_dtype is not None:
            autocast = torch.autocast(self.device.type, self._autocast_dtype)
        with autocast:
            outputs = self.model([pending.image.as_input() for pending in batch])
        for pending, output in zip(batch, outputs, strict=True):
            found = output["instances"].to("cpu")
            found.pred_boxes = Boxes(found.pred_boxes.tensor.float())
            found.scores = found.scores.float()
            pending.result = found[found.scores >= self.threshold] if self.threshold > 0 else found


def _usable_processors() -> int:
    """Of this process, which a scheduler may have confined to some."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _check_count(name: str, value: object) -> None:
    if not _is_number(value, numbers.Integral) or value < 1:
        raise InputError(f"{name} is {value!r}, it must be a whole number, at least 1")


def _is_number(value: object, kind: type) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool | np.bool_)
