import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from detectron2.config import configurable
from detectron2.modeling import META_ARCH_REGISTRY, Backbone
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.structures import ImageList, Instances
from torch import Tensor, nn
from torchvision.ops import box_convert

from smca.config import model_parts_from_cfg
from smca.device import copy_to
from smca.errors import InputError
from smca.layers import at_least_float32, full_precision
from smca.layers.padding import padding_mask

from .backbone import IsolatingResNet
from .classification import Classification, check_same_classification
from .neck import Neck
from .records import DecoderOutput, Target

_SMALLEST_STD = 1e-6
"""Of pixels; smaller numbers may be 0 in single precision."""


@META_ARCH_REGISTRY.register()
class SMCA(nn.Module):
    """SMCA and DETR detectors: which one it is, is a matter of the parts handed in.

    image -> backbone -> neck -> encoder -> decoder -> heads -> criterion in training, postprocessor in inference.
    """

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        neck: Neck,
        encoder: nn.Module,
        decoder: nn.Module,
        classification: Classification,
        heads: nn.Module,
        criterion: Callable[..., dict[str, Tensor]],
        postprocessor: Callable[[dict, list[tuple[int, int]]], list[Instances]],
        num_classes: int,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        input_format: str = "RGB",
        isolate_images: bool = True,
    ):
        """
        Args:
            backbone: gives the features that the neck asks for; it may want images padded to a multiple of its
                ``size_divisibility``.
            neck: connected to the backbone's ``output_shape()`` here.
            encoder, decoder, heads: called as :class:`Encoder`, :class:`Decoder` and :class:`DetectionHeads`.
            classification: decides on outputs, scores, cost and loss; heads, criterion and postprocessor refer to it.
            criterion: losses from outputs and targets, called as :class:`SetCriterion`.
            postprocessor: detections from the last layer's outputs, called as :class:`Postprocessor`.
            num_classes: classes of the data set.
            pixel_mean, pixel_std: per channel, in the order of ``input_format`` and the unit of the images (0..255).
            input_format: channel order of the images the model is given, "RGB" or "BGR".
            isolate_images: whether an image gets in a padded batch the outputs it has alone, in training and in
                inference, which needs a backbone of :func:`build_resnet`. Without, convolutions at the right and
                bottom border see what the backbone makes of padding, as in the released implementations.

        Raises:
            InputError: if the parts disagree on channels, strides, numbers of levels or classes, or the classification.
        """
        super().__init__()
        parts = {"heads": heads, "criterion": criterion, "postprocessor": postprocessor}
        network = {"backbone": backbone, "neck": neck, "encoder": encoder, "decoder": decoder}
        _check_arguments({**network, **parts}, pixel_mean, pixel_std)
        check_same_classification(
            classification,
            **{"criterion.matcher": getattr(criterion, "matcher", None)},
            **{f"decoder.{name}": part for name, part in decoder.named_modules() if name},
            **parts,
        )
        neck.connect(backbone.output_shape())
        _check_levels(neck, encoder, decoder)
        _check_classes(num_classes, decoder=decoder, heads=heads)
        self.backbone = backbone
        self.neck = neck
        self.encoder = encoder
        self.decoder = decoder
        self.classification = classification
        self.heads = heads
        self.criterion = criterion
        self.postprocessor = postprocessor
        self.num_classes = num_classes
        self.input_format = input_format
        self.isolate_images = isolate_images and isinstance(backbone, IsolatingResNet)
        self.register_buffer("pixel_mean", torch.tensor(list(pixel_mean)).view(-1, 1, 1), False)
        self.register_buffer("pixel_std", torch.tensor(list(pixel_std)).view(-1, 1, 1), False)

    @classmethod
    def from_config(cls, cfg) -> dict:
        return model_parts_from_cfg(cfg)

    @property
    def device(self) -> torch.device:
        return self.pixel_mean.device

    def forward(
        self, batched_inputs: list[dict], num_boxes: float | None = None
    ) -> dict[str, Tensor] | list[dict]:
        """Losses in training, detections in inference.

        Args:
            batched_inputs: Detectron2's format. "image": (3, height, width) tensor, 0..255, in ``input_format``;
                "instances" with ``gt_boxes`` and ``gt_classes`` in training; "height" and "width" of the wanted
                output in inference (default: the image's own).
            num_boxes: in training, what the losses are averaged over, where the batch is part of a larger one; None
                counts the batch's own objects and averages over processes.

        Returns:
            In training weighted losses by name, in inference [{"instances": Instances}] in the wanted output size.
        """
        images = self.preprocess_images(batched_inputs, isolate=self.isolate_images)
        if self.training:
            targets = self.prepare_targets(batched_inputs)
            outputs, decoded = self.run_network(
                images, isolate=self.isolate_images, targets=targets
            )
            with full_precision(decoded.hidden):
                return self.criterion(outputs, targets, num_boxes)
        outputs, _ = self.run_network(images, isolate=self.isolate_images, last_layer_only=True)
        last = {name: values[-1] for name, values in outputs.items() if isinstance(values, Tensor)}
        return [
            {"instances": _resize_instances(result, item)}
            for result, item in zip(
                self.postprocessor(last, images.image_sizes), batched_inputs, strict=True
            )
        ]

    def raw_outputs(self, batched_inputs: list[dict]) -> dict[str, Tensor]:
        """Outputs of all L decoder layers before postprocessing; padding is seen as by the released models.

        Returns:
            "pred_logits" (L, B, Q, K) and "pred_boxes" (L, B, Q, 4) as (cx, cy, w, h) in [0, 1] of each unpadded
            image.
        """
        return self.run_network(self.preprocess_images(batched_inputs))[0]

    def count_boxes(self, batched_inputs: list[dict]) -> int:
        """Objects that the losses of a batch are averaged over."""
        return sum(len(item["instances"]) for item in batched_inputs)

    def preprocess_images(self, batched_inputs: list[dict], *, isolate: bool = False) -> ImageList:
        """Normalise, then pad at the right and bottom to the largest height and width of the batch.

        Args:
            isolate: images of several sizes are padded to multiples of the largest stride, as :meth:`run_network` needs
                it.
        """
        images = [
            (item["image"].to(self.device, non_blocking=True) - self.pixel_mean) / self.pixel_std
            for item in batched_inputs
        ]
        divisibility = self.backbone.size_divisibility
        if isolate and len({image.shape for image in images}) > 1:
            divisibility = math.lcm(divisibility or 1, self.neck.strides[-1])
        constraints = getattr(self.backbone, "padding_constraints", None)
        # Only Detectron2's main branch has them, and takes them.
        options = {"padding_constraints": constraints} if constraints else {}
        return ImageList.from_tensors(images, divisibility, **options)

    def run_network(
        self,
        images: ImageList,
        *,
        isolate: bool = False,
        last_layer_only: bool = False,
        targets: list[Target] | None = None,
    ) -> tuple[dict[str, Any], DecoderOutput]:
        """From normalised and padded images to what the heads give.

        Args:
            images: of :meth:`preprocess_images`.
            isolate: whether the backbone keeps padding out of the images' features (see ``isolate_images``).
            last_layer_only: predict from the last decoder layer alone.
            targets: B targets in training, for decoders that make queries from them.

        Returns:
            The outputs, all L first or with ``last_layer_only`` 1, and what they were predicted from.
        """
        pixels = images.tensor
        safe = getattr(self.backbone, "trains_channels_last", False)
        if safe or pixels.is_cuda or not torch.is_grad_enabled():
            # Faster convolutions, and flattening to tokens becomes a view. Not where any backbone trains on a CPU:
            # oneDNN's backward pass of a strided 1x1 convolution writes out of bounds in this layout (torch 2.14).
            pixels = pixels.contiguous(memory_format=torch.channels_last)
        widths_first = [(w, h) for h, w in images.image_sizes]
        return self.run_padded(
            pixels,
            padding_mask(pixels, images.image_sizes),
            copy_to(torch.tensor(widths_first, dtype=pixels.dtype), pixels.device),
            isolate=isolate,
            last_layer_only=last_layer_only,
            targets=targets,
        )

    def run_padded(
        self,
        pixels: Tensor,
        mask: Tensor | None,
        image_sizes: Tensor,
        *,
        isolate: bool = False,
        last_layer_only: bool = False,
        targets: list[Target] | None = None,
    ) -> tuple[dict[str, Any], DecoderOutput]:
        """:meth:`run_network` of tensors alone, as an exported graph has it.

        Args:
            pixels: (B, 3, height, width) normalised, zero where padded; with ``isolate`` height and width are multiples
                of the largest stride, unless no image is padded.
            mask: (B, height, width) bool, True where padded; None if no image is.
            image_sizes: (B, 2) unpadded (width, height) in pixels.
            isolate, last_layer_only, targets: as there.
        """
        features = self.backbone(pixels, mask) if isolate else self.backbone(pixels)
        # A neck of one's own need not know of it.
        options = {"isolate": isolate} if getattr(self.neck, "see_padding", False) else {}
        levels = self.encoder(self.neck(features, mask, **options))
        decoded = self.decoder(levels, image_sizes, targets)
        used = decoded.last_layer() if last_layer_only else decoded
        with full_precision(used.hidden):
            used = replace(used, hidden=at_least_float32(used.hidden))
            outputs = self.heads(used, levels, features)
        split = None if decoded.queries is None else decoded.queries.split
        return (outputs if split is None else split(outputs)), decoded

    def prepare_targets(self, batched_inputs: list[dict]) -> list[Target]:
        """Ground-truth ``Instances`` -> targets, boxes relative to the unpadded image."""
        labels, boxes = [], []
        for item in batched_inputs:
            instances = item["instances"]
            height, width = instances.image_size
            corners = instances.gt_boxes.tensor
            relative = corners / corners.new_tensor([width, height, width, height])
            labels.append(instances.gt_classes)
            boxes.append(box_convert(relative, "xyxy", "cxcywh"))
        counts = [len(image_labels) for image_labels in labels]
        # Two copies to the device, not two per image.
        parts = (
            copy_to(torch.cat(values), self.device).split(counts) for values in (labels, boxes)
        )
        return [Target(*target) for target in zip(*parts, strict=True)]


def _check_arguments(
    parts: dict[str, object], pixel_mean: Sequence[float], pixel_std: Sequence[float]
) -> None:
    for name, part in parts.items():
        if not callable(part):
            raise InputError(f"{name} is {part!r}, it must be callable")
    for name, values in (("pixel_mean", pixel_mean), ("pixel_std", pixel_std)):
        values = list(values)
        if len(values) != 3 or not all(isinstance(value, int | float) for value in values):
            raise InputError(f"{name} is {values}, it must have a number per channel, 3")
    if not all(_SMALLEST_STD <= value < math.inf for value in pixel_std):
        raise InputError(f"pixel_std is {list(pixel_std)}, its numbers must be positive")


def _check_levels(neck: Neck, encoder: nn.Module, decoder: nn.Module) -> None:
    given = len(neck.strides)
    # A part of one's own need not say for how many levels it was built.
    wanted = tuple(getattr(part, "num_levels", given) for part in (encoder, decoder))
    if wanted != (given, given):
        raise InputError(
            f"neck.strides {list(neck.strides)} gives {len(neck.strides)} levels, encoder.num_levels is {wanted[0]} "
            f"and decoder.num_levels {wanted[1]}; make them equal"
        )


def _check_classes(num_classes: int, **parts: nn.Module) -> None:
    for name, part in parts.items():
        for module in part.modules() if isinstance(part, nn.Module) else ():
            # A part of one's own need not say for how many classes it was built.
            built_for = getattr(module, "num_classes", num_classes)
            if built_for != num_classes:
                raise InputError(
                    f"{type(module).__name__} in the {name} was built for {built_for} classes, the model has "
                    f"{num_classes}; make them equal"
                )


def _resize_instances(result: Instances, item: dict) -> Instances:
    height, width = result.image_size
    return detector_postprocess(result, item.get("height", height), item.get("width", width))
