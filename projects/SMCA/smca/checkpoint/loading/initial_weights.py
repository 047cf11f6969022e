"""The weights that a training starts from: what fits of a checkpoint."""

from collections.abc import Callable, Sequence

import torch
from detectron2.layers import FrozenBatchNorm2d
from torch import Tensor, nn

from smca.checkpoint.conversion.convert_released import convert_resnet
from smca.checkpoint.reading.model_file import first_not_finite, read_model_file
from smca.errors import InputError
from smca.timm_features import build_features

from .class_rows import known_classes
from .load_report import LoadReport, fit
from .our_names import to_our_names

TORCHVISION_PREFIX = "torchvision://"
TIMM_PREFIX = "timm://"


def load_initial_weights(
    model: nn.Module, source: str, *, class_names: Sequence[str] = (), report: bool = True
) -> LoadReport:
    """Load what fits of a checkpoint into a model, and say what does not.

    The classifier's rows are carried over by the names of the classes where both sides know them; classes that are
    new keep their rows as initialised. Without names they are loaded if there are as many. With another number of
    queries the first ones are loaded. Where a training kept moving averages (EMA) of its weights, they are taken.

    Args:
        model: the detector.
        source: a checkpoint file (of this project, of Detectron2, or a published DETR or SMCA release), a URL,
            "smca://" and the name of a zoo entry, "detectron2://" and Detectron2's name of one of its files, or
            "torchvision://resnet50" and the like for torchvision's ImageNet weights of the backbone, "timm://NAME" for
            timm's of a :class:`~smca.modeling.TimmBackbone`. No code in a file is run.
        class_names: of the model's classes, in order, if known.
        report: log which tensors were loaded and which were not.

    Raises:
        InputError: if the file does not exist, cannot be fetched or is no checkpoint, if no tensor of it fits the
            model, or if the class names are not as many as the model's classes.
    """
    number = getattr(model, "num_classes", None)
    if class_names and number not in (None, len(class_names)):
        raise InputError(
            f"the model has {number} classes, but there are {len(class_names)} class names"
        )
    tensors, names, moving_averages = _weights_of(source, model)
    bad = first_not_finite(tensors)
    if bad is not None:
        raise InputError(
            f"the tensor {bad} of {source} holds NaN or infinity; take another checkpoint"
        )
    fitting, outcome = fit(
        model.state_dict(),
        tensors,
        source=source,
        classes=known_classes(names, class_names),
        moving_averages=moving_averages,
    )
    if not outcome.loaded and not outcome.resized:
        raise InputError(
            f"no tensor of {source} fits this model; is it a checkpoint of another one?"
        )
    model.load_state_dict(fitting, strict=False)
    if report:
        outcome.log()
    return outcome


def frozen_norm_without_weights(model: nn.Module) -> bool:
    """Whether the model has frozen norms that still are as constructed, as if no weights had been loaded."""
    return any(
        isinstance(module, FrozenBatchNorm2d)
        # Detectron's ImageNet files have mean and variance inside of weight and bias.
        and not module.running_mean.any()
        and not module.bias.any()
        and bool((module.weight == 1).all())
        for module in model.modules()
    )


def _weights_of(source: str, model: nn.Module) -> tuple[dict[str, Tensor], tuple[str, ...], bool]:
    """Tensors under the model's names, names of their classes if known, and whether they are moving averages."""
    for prefix, load in _BACKBONES.items():
        if source.startswith(prefix):
            return load(source.removeprefix(prefix)), (), False
    file = read_model_file(source)
    return *to_our_names(file, model), file.ema is not None


def _torchvision_backbone(name: str) -> dict[str, Tensor]:
    from torchvision.models import get_model_weights

    try:
        weights = get_model_weights(name).IMAGENET1K_V1
    except (ValueError, AttributeError) as error:
        raise InputError(
            f"{TORCHVISION_PREFIX}{name}: torchvision has no such model with ImageNet weights, "
            "use resnet50 or resnet101"
        ) from error
    try:
        state = weights.get_state_dict(progress=True, check_hash=True)
    except (OSError, RuntimeError) as error:
        # The latter for a download whose hash is another one.
        raise InputError(
            f"{TORCHVISION_PREFIX}{name}: cannot download {weights.url} ({error}); put the file in "
            f"{torch.hub.get_dir()}/checkpoints, or set train.init_checkpoint to a checkpoint file"
        ) from error
    return convert_resnet(state)


def _timm_backbone(name: str) -> dict[str, Tensor]:
    try:
        state = build_features(name, pretrained=True).state_dict()
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"{TIMM_PREFIX}{name}: timm cannot get these weights ({next(iter(str(error).splitlines()), '')}); download "
            "them once where there is a network, or set train.init_checkpoint to a checkpoint file"
        ) from error
    return {f"backbone.body.{key}": value for key, value in state.items()}


_BACKBONES: dict[str, Callable[[str], dict[str, Tensor]]] = {
    TORCHVISION_PREFIX: _torchvision_backbone,
    TIMM_PREFIX: _timm_backbone,
}
