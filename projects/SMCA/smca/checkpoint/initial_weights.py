import logging
from collections.abc import Mapping

import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.layers import FrozenBatchNorm2d
from torch import Tensor, nn

from .convert_released import convert_released, convert_resnet_name
from .state_dict_file import read_state_dict

logger = logging.getLogger(__name__)

TORCHVISION_PREFIX = "torchvision://"


def load_initial_weights(model: nn.Module, source: str, *, report: bool = True) -> None:
    """Load what fits of a checkpoint into a model, and say what does not.

    Args:
        model: the detector.
        source: a checkpoint file (of this project, of Detectron2, or a published DETR or SMCA release),
            "torchvision://resnet50" and the like for torchvision's ImageNet weights of the backbone, or a
            "detectron2://" name or .pkl file, which Detectron2's own checkpointer loads.
        report: log which tensors were loaded and which were not.

    Raises:
        ValueError: if the file does not exist or is no checkpoint, or if no tensor of it fits the model.
    """
    if source.startswith("detectron2://") or source.endswith(".pkl"):
        DetectionCheckpointer(model).load(source)
        return
    if source.startswith(TORCHVISION_PREFIX):
        weights = _torchvision_backbone(source.removeprefix(TORCHVISION_PREFIX))
    else:
        weights = read_state_dict(source)
        if any(name.startswith("transformer.") for name in weights):
            weights = convert_released(weights, model.num_classes)
    own = model.state_dict()
    fitting = {k: v for k, v in weights.items() if k in own and own[k].shape == v.shape}
    if not fitting:
        raise ValueError(
            f"no tensor of {source} fits this model; is it a checkpoint of another one?"
        )
    model.load_state_dict(fitting, strict=False)
    if report:
        _report(source, own, weights, fitting)


def frozen_norm_without_weights(model: nn.Module) -> bool:
    """Whether the model has frozen norms that still are as constructed, as if no weights had been loaded."""
    return any(
        isinstance(module, FrozenBatchNorm2d) and not module.running_mean.any()
        for module in model.modules()
    )


def _report(
    source: str, own: Mapping[str, Tensor], weights: Mapping[str, Tensor], fitting: Mapping
) -> None:
    logger.info("Loaded %d of the model's %d tensors from %s.", len(fitting), len(own), source)
    misshapen = [
        f"{k} {tuple(weights[k].shape)} instead of {tuple(own[k].shape)}"
        for k in weights
        if k in own and k not in fitting
    ]
    unknown = [k for k in weights if k not in own]
    missing = [k for k in own if k not in weights]
    for what, names in (
        ("skipped for their shape", misshapen),
        ("skipped because the model has no such tensor", unknown),
        ("not in the checkpoint, left as initialised", missing),
    ):
        if names:
            logger.warning("%d tensors %s: %s", len(names), what, _shorten(names))


def _shorten(names: list[str], limit: int = 12) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def _torchvision_backbone(name: str) -> dict[str, Tensor]:
    from torchvision.models import get_model_weights

    try:
        weights = get_model_weights(name).IMAGENET1K_V1
    except (ValueError, AttributeError) as error:
        raise ValueError(
            f"{TORCHVISION_PREFIX}{name}: torchvision has no such model with ImageNet weights, "
            "use resnet50 or resnet101"
        ) from error
    try:
        state = weights.get_state_dict(progress=True, check_hash=True)
    except OSError as error:
        raise ValueError(
            f"{TORCHVISION_PREFIX}{name}: cannot download {weights.url} ({error}); put the file in "
            f"{torch.hub.get_dir()}/checkpoints, or set train.init_checkpoint to a checkpoint file"
        ) from error
    return convert_resnet(state)


def convert_resnet(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A torchvision ResNet's tensors under our names; its classifier is left out."""
    return {
        "backbone." + convert_resnet_name(name): tensor
        for name, tensor in state_dict.items()
        if not name.startswith("fc.") and not name.endswith("num_batches_tracked")
    }
