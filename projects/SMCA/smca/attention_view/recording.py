"""One image through a model as always, with what its decoder's co-attentions were called with written down."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import box_convert

from smca.errors import InputError
from smca.inference.predictor import Predictor
from smca.inference.prepared_image import ImageLike
from smca.modeling import SMCA


@dataclass(frozen=True)
class Call:
    """One call of a decoder layer's co-attention.

    Attributes:
        module: the co-attention.
        args, kwargs: it was called with.
        output: (1, Q, C) it returned.
    """

    module: nn.Module
    args: tuple
    kwargs: dict[str, Any]
    output: Tensor


@dataclass(frozen=True)
class NetworkRun:
    """What one image became, Q queries over S levels and L decoder layers.

    Attributes:
        size: (height, width) in pixels of the model's input.
        boxes: (L, Q, 4) xyxy in pixels of the model's input, what each layer predicts.
        queries, scores, classes: (D,) of the detections, best first; those that ``smca-predict`` gives.
        strides: S pixels per cell.
        layers: L of what the decoder calls a layer.
        priors: L of what the modulation gave; empty without one.
        calls: L calls, None for a layer without a co-attention that could be listened to.
    """

    size: tuple[int, int]
    boxes: Tensor
    queries: Tensor
    scores: Tensor
    classes: Tensor
    strides: tuple[int, ...]
    layers: tuple[nn.Module, ...]
    priors: tuple[Any, ...]
    calls: tuple[Call | None, ...]


@torch.no_grad()
def record(predictor: Predictor, image: ImageLike) -> NetworkRun:
    """Run the model on one image and keep what its co-attentions were given; nothing of it is changed.

    Args:
        predictor: of a model of this project.
        image: as the predictor takes it.

    Raises:
        InputError: if the image cannot be read, or the model is of another kind.
    """
    model = predictor.model
    if not isinstance(model, SMCA):
        raise InputError(
            f"the model is a {type(model).__name__}, which has no object queries whose attention could be shown"
        )
    batch = [predictor.batched_input(image)]
    layers = tuple(getattr(model.decoder, "layers", ()))
    with listening(layers) as calls:
        images = model.preprocess_images(batch, isolate=model.isolate_images)
        outputs, decoded = model.run_network(images, isolate=model.isolate_images)
    height, width = size = images.image_sizes[0]
    boxes = box_convert(outputs["pred_boxes"][:, 0].float(), "cxcywh", "xyxy")
    limit = getattr(model.postprocessor, "max_detections", len(boxes[0]))
    scores, classes, queries = model.classification.select(outputs["pred_logits"][-1], limit)
    return NetworkRun(
        size=size,
        boxes=boxes * boxes.new_tensor([width, height, width, height]),
        queries=queries[0],
        scores=scores[0],
        classes=classes[0],
        strides=tuple(model.neck.strides),
        layers=layers,
        priors=decoded.priors,
        calls=tuple(calls.get(index) for index in range(len(layers))),
    )


@contextlib.contextmanager
def listening(layers: tuple[nn.Module, ...]) -> Iterator[dict[int, Call]]:
    """Inside, the last call of each layer's ``co_attention`` stands under the layer's number."""
    calls: dict[int, Call] = {}
    with contextlib.ExitStack() as stack:
        for index, layer in enumerate(layers):
            part = getattr(layer, "co_attention", None)
            if isinstance(part, nn.Module):
                hook = part.register_forward_hook(_writer(calls, index), with_kwargs=True)
                stack.callback(hook.remove)
        yield calls


def _writer(calls: dict[int, Call], index: int):
    def write(module: nn.Module, args: tuple, kwargs: dict, output: Tensor) -> None:
        calls[index] = Call(module, args, kwargs, output)

    return write
