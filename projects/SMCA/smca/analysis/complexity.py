"""Parameters, multiply-adds and activation memory of a model, counted without running it.

Models are built and run on PyTorch's meta device, which knows shapes and no values, so that a count
takes a second and depends on neither machine nor weights.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import torch
from detectron2.config import instantiate
from detectron2.modeling import GeneralizedRCNN
from detectron2.structures import ImageList
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from smca.errors import InputError
from smca.modeling import SMCA

PARTS = ("backbone", "neck", "encoder", "decoder", "heads")

# Module -> part where the two differ: Detectron2's R-CNN. The longest prefix of a name counts.
_RCNN_PARTS = {
    "backbone": "neck",
    "backbone.bottom_up": "backbone",
    "proposal_generator": "heads",
    "roi_heads": "heads",
}


@dataclass(frozen=True)
class Complexity:
    """
    Attributes:
        trainable, total: parameters by part: those of ``PARTS`` and, for a model of the user's own,
            any other top-level module. Buffers are none, so frozen norms count nothing.
        multiply_adds: of one image in inference; convolutions and matrix products, attention's
            among them.
        activation_bytes: what one training image keeps for the backward pass of the network, loss
            left out, with attention by the plain kernel, which keeps its weights.
        fused_activation_bytes: the same with a fused attention kernel, which keeps none.
    """

    trainable: dict[str, int]
    total: dict[str, int]
    multiply_adds: int
    activation_bytes: int
    fused_activation_bytes: int


def analyze(model_config: DictConfig, size: tuple[int, int]) -> Complexity:
    """Count a model.

    Args:
        model_config: the ``model`` node of a LazyConfig.
        size: (height, width) of the image in pixels.

    Raises:
        InputError: if the model is neither an SMCA nor a Faster R-CNN of Detectron2.
    """
    model = build_on_meta(model_config)
    return Complexity(
        trainable=count_parameters(model, trainable_only=True),
        total=count_parameters(model),
        multiply_adds=count_multiply_adds(model, size),
        activation_bytes=count_activation_bytes(model, size),
        fused_activation_bytes=count_activation_bytes(model, size, fused_attention=True),
    )


def build_on_meta(model_config: DictConfig) -> nn.Module:
    """The model with shapes and no values."""
    with torch.device("meta"):
        return instantiate(model_config)


def count_parameters(model: nn.Module, *, trainable_only: bool = False) -> dict[str, int]:
    """Numbers of parameters by part, see :class:`Complexity`."""
    counts = Counter(dict.fromkeys(PARTS, 0))
    for name, parameter in model.named_parameters():
        if parameter.requires_grad or not trainable_only:
            counts[_part_of(name, model)] += parameter.numel()
    return dict(counts)


def count_multiply_adds(model: nn.Module, size: tuple[int, int]) -> int:
    """Multiply-adds of one image of (height, width) pixels in inference.

    Attention is run as matrix products for the count, whatever kernel computes it elsewhere.
    """
    # Gradients stay on: the counter's module hooks fail on parameters under no_grad.
    with _mode(model, training=False), FlopCounterMode(display=False) as counter:
        run_network(model, size)
    return counter.get_total_flops() // 2


def count_activation_bytes(
    model: nn.Module, size: tuple[int, int], *, fused_attention: bool = False
) -> int:
    """Bytes that autograd keeps for the backward pass of one training image.

    In float32 with dropout on. Storages are counted once however many views are kept, parameters
    and buffers not at all.

    Args:
        model: on the meta device.
        size: (height, width) in pixels.
        fused_attention: with PyTorch's memory-efficient kernel instead of the plain one, which
            keeps the attention weights (the one that runs on a CPU in training).
    """
    own = {StorageWeakRef(t.untyped_storage()) for t in (*model.parameters(), *model.buffers())}
    kept: dict[StorageWeakRef, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        # Holding the tensor keeps its storage alive, else a later one could take its identity.
        kept.setdefault(StorageWeakRef(tensor.untyped_storage()), tensor)
        return tensor

    with (
        _mode(model, training=True),
        _FusedAttention() if fused_attention else nullcontext(),
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
    ):
        run_network(model, size)
    return sum(t.untyped_storage().nbytes() for ref, t in kept.items() if ref not in own)


class _FusedAttention(TorchFunctionMode):
    """Takes the memory-efficient kernel, which PyTorch itself would choose on a GPU only."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function is not F.scaled_dot_product_attention:
            return function(*args, **kwargs)
        query, key, value = args
        bias = kwargs["attn_mask"]
        if bias is not None:
            bias = bias.expand(*query.shape[:-1], key.shape[-2])
        kernel = torch.ops.aten._scaled_dot_product_efficient_attention
        return kernel(query, key, value, bias, True, kwargs["dropout_p"])[0]


def run_network(model: nn.Module, size: tuple[int, int]) -> None:
    """One image of (height, width) pixels on the meta device, from pixels to raw predictions.

    Matching, losses and postprocessing depend on values and cost little; they are left out.

    Raises:
        InputError: for a model whose network is not known here.
    """
    if isinstance(model, SMCA):
        images = ImageList(torch.empty(1, 3, *size, device="meta"), [size])
        model.run_network(images, last_layer_only=not model.training)
    elif isinstance(model, GeneralizedRCNN):
        _run_rcnn(model, size)
    else:
        raise InputError(
            f"the network of a {type(model).__name__} is not known here; those of SMCA, DETR and "
            "Detectron2's Faster R-CNN are"
        )


def _run_rcnn(model: GeneralizedRCNN, size: tuple[int, int]) -> None:
    """How many boxes come out of the proposal stage depends on the image: its limit is taken."""
    backbone, proposals, roi_heads = model.backbone, model.proposal_generator, model.roi_heads
    image = torch.empty(3, *size, device="meta")
    images = ImageList.from_tensors([image], backbone.size_divisibility)
    features = backbone(images.tensor)
    proposals.rpn_head([features[name] for name in proposals.in_features])
    sampled, handed_on = roi_heads.batch_size_per_image, proposals.post_nms_topk[False]
    # Pooling itself multiplies nothing; what it gives is kept for the box head's backward pass.
    height, width = roi_heads.box_pooler.output_size
    channels = backbone.output_shape()[roi_heads.box_in_features[0]].channels
    pooled = torch.empty(
        sampled if model.training else handed_on,
        *(channels, height, width),
        device="meta",
        requires_grad=True,
    )
    roi_heads.box_predictor(roi_heads.box_head(pooled))


def _part_of(name: str, model: nn.Module) -> str:
    if isinstance(model, GeneralizedRCNN):
        prefixes = [prefix for prefix in _RCNN_PARTS if name.startswith(f"{prefix}.")]
        if prefixes:
            return _RCNN_PARTS[max(prefixes, key=len)]
    return name.partition(".")[0]


@contextmanager
def _mode(model: nn.Module, *, training: bool) -> Iterator[None]:
    """Training or inference with plain attention; afterwards the model is as it was."""
    before = model.training
    model.train(training)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        model.train(before)
