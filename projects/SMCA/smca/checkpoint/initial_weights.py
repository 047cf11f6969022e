import dataclasses
from collections.abc import Mapping, Sequence

import torch
from detectron2.checkpoint.c2_model_loading import align_and_update_state_dicts
from detectron2.layers import FrozenBatchNorm2d
from torch import Tensor, nn

from smca.timm_features import build_features

from .class_columns import PUBLISHED_COLUMNS
from .class_rows import carry_class_rows, known_classes, resize_rows
from .coco_categories import COCO_CLASS_NAMES
from .convert_deformable import is_released_deformable, released_deformable_columns
from .convert_released import convert_released, convert_resnet_name
from .fetch import fetch_weights
from .load_report import BY_NAME, LoadReport
from .model_file import ModelFile, first_not_finite, read_model_file

TORCHVISION_PREFIX = "torchvision://"
TIMM_PREFIX = "timm://"

_PRETEXT = ("patch2query.", "feature_align.")
"""What UP-DETR's pre-training has beside a DETR."""

_SOURCE = "decoder.query_embedding."
QUERIES = f"{_SOURCE}weight"
_RESIZED = (
    QUERIES, f"{_SOURCE}position.weight", f"{_SOURCE}content.weight",
    # An encoder's classifier: its first row counts, whatever the number of classes.
    f"{_SOURCE}proposals.objectness.weight", f"{_SOURCE}proposals.objectness.bias",
)  # fmt: skip
"""Tensors of which the first rows are loaded where there are more or fewer."""


@dataclasses.dataclass(frozen=True)
class _Weights:
    """Tensors under the model's names, and the names of their classes if they are known."""

    tensors: dict[str, Tensor]
    class_names: tuple[str, ...] = ()
    moving_averages: bool = False


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
        ValueError: if the file does not exist, cannot be fetched or is no checkpoint, if no tensor of it fits the
            model, or if the class names are not as many as the model's classes.
    """
    number = getattr(model, "num_classes", None)
    if class_names and number not in (None, len(class_names)):
        raise ValueError(
            f"the model has {number} classes, but there are {len(class_names)} class names"
        )
    if source.startswith(TORCHVISION_PREFIX):
        weights = _Weights(_torchvision_backbone(source.removeprefix(TORCHVISION_PREFIX)))
    elif source.startswith(TIMM_PREFIX):
        weights = _Weights(_timm_backbone(source.removeprefix(TIMM_PREFIX)))
    else:
        weights = _weights_for(model, read_model_file(fetch_weights(source)))
    bad = first_not_finite(weights.tensors)
    if bad is not None:
        raise ValueError(
            f"the tensor {bad} of {source} holds NaN or infinity; take another checkpoint"
        )
    own = model.state_dict()
    fitting, outcome = _fit(own, weights, source, class_names)
    if not outcome.loaded and not outcome.resized:
        raise ValueError(
            f"no tensor of {source} fits this model; is it a checkpoint of another one?"
        )
    model.load_state_dict(fitting, strict=False)
    if report:
        outcome.log()
    return outcome


def compare_weights(
    own: Mapping[str, Tensor], given: Mapping[str, Tensor], source: str
) -> LoadReport:
    """What would become of tensors in a model with the state dict ``own``; none is loaded.

    Args:
        own: of the model, which may be on the meta device.
        given: tensors by the model's names.
        source: where they come from, for messages.
    """
    return _fit(own, _Weights(dict(given)), source, ())[1]


def check_whole(own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> None:
    """
    Args:
        own: state dict of a model that is to predict, which may be on the meta device.
        given: tensors by the model's names.

    Raises:
        ValueError: if they do not fill the model, or one holds NaN or infinity.
    """
    misfit = compare_weights(own, given, "").misfit()
    if misfit:
        raise ValueError(f"its tensors are not those of this model: {misfit}")
    bad = first_not_finite(given)
    if bad is not None:
        raise ValueError(
            f"its tensor {bad} holds NaN or infinity, so that the model would predict nothing"
        )


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


def _weights_for(model: nn.Module, file: ModelFile) -> _Weights:
    """A file's tensors under the model's names."""
    tensors, names = file.best_state_dict, file.class_names
    if file.matching_heuristics:
        tensors = align_and_update_state_dicts(
            model.state_dict(), tensors, c2_conversion=file.author == "Caffe2"
        )
    elif any(name.startswith("transformer.") for name in tensors):
        tensors, names = _from_release(tensors, getattr(model, "num_classes", None))
    return _Weights(tensors, names, moving_averages=file.ema is not None)


def _from_release(
    tensors: Mapping[str, Tensor], num_classes: int | None
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """A released detector's tensors under our names. Its classes are COCO's if its columns are COCO's ids."""
    if any(name.startswith(_PRETEXT[0]) for name in tensors):
        # UP-DETR before fine-tuning: its classes are those of the pretext task, "patch found" or not.
        kept = {k: v for k, v in tensors.items() if not k.startswith((*_PRETEXT, "class_embed."))}
        return convert_released(kept), ()
    if is_released_deformable(tensors):
        columns = released_deformable_columns(tensors)
        if columns in PUBLISHED_COLUMNS and num_classes != columns:
            return convert_released(tensors, len(COCO_CLASS_NAMES)), COCO_CLASS_NAMES
        return convert_released(tensors, columns), ()
    columns = len(tensors.get("class_embed.bias", ()))
    if columns in PUBLISHED_COLUMNS and num_classes not in (columns - 1, columns):
        return convert_released(tensors, len(COCO_CLASS_NAMES)), COCO_CLASS_NAMES
    # Trained by someone on classes of their own, with "no object" last in DETR.
    has_prior = any(".point1." in name for name in tensors)
    return convert_released(tensors, columns if has_prior else columns - 1), ()


def _fit(
    own: Mapping[str, Tensor], weights: _Weights, source: str, class_names: Sequence[str]
) -> tuple[dict[str, Tensor], LoadReport]:
    """The tensors to load into a model with the state dict ``own``, and what became of them all."""
    given = weights.tensors
    whole = {
        k: v
        for k, v in given.items()
        if k in own and own[k].shape == v.shape and not _is_of_another_kind(own[k], v)
    }
    partial, resized = {}, []
    classes = known_classes(weights.class_names, class_names)
    if classes is not None:
        carried = carry_class_rows(own, given, classes)
        partial = {k: v for k, v in carried.items() if not (classes.same and k in whole)}
        resized = [f"{name}{BY_NAME}" for name in sorted(partial)]
        classes = classes if carried else None
    for name in _RESIZED:
        if name not in own or name not in given or name in whole:
            continue
        old, new = given[name], own[name]
        if old.shape[1:] == new.shape[1:]:
            partial[name] = resize_rows(new, old)
            resized.append(f"{name}: {min(len(old), len(new))} rows of {len(old)} for {len(new)}")
    fitting = {**whole, **partial}
    outcome = LoadReport(
        source=source,
        total=len(own),
        loaded=[k for k in whole if k not in partial],
        resized=resized,
        classes=classes,
        misshapen=[
            f"{k} {_described(given[k])} instead of {_described(own[k])}"
            for k in given
            if k in own and k not in fitting
        ],
        unknown=[k for k in given if k not in own],
        missing=[k for k in own if k not in given],
        moving_averages=weights.moving_averages,
    )
    return fitting, outcome


def _is_of_another_kind(own: Tensor, given: Tensor) -> bool:
    """Whether one holds fractions and the other whole numbers, as a weight and a counter do."""
    return own.is_floating_point() != given.is_floating_point()


def _described(tensor: Tensor) -> str:
    """Its shape, with the type of its values where that is unusual."""
    return f"{tuple(tensor.shape)}" + ("" if tensor.is_floating_point() else f" {tensor.dtype}")


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


def _timm_backbone(name: str) -> dict[str, Tensor]:
    try:
        state = build_features(name, pretrained=True).state_dict()
    except (OSError, RuntimeError) as error:
        raise ValueError(
            f"{TIMM_PREFIX}{name}: timm cannot get these weights ({next(iter(str(error).splitlines()), '')}); download "
            "them once where there is a network, or set train.init_checkpoint to a checkpoint file"
        ) from error
    return {f"backbone.body.{key}": value for key, value in state.items()}


def convert_resnet(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A torchvision ResNet's tensors under our names; its classifier is left out."""
    return {
        "backbone." + convert_resnet_name(name): tensor
        for name, tensor in state_dict.items()
        if not name.startswith("fc.") and not name.endswith("num_batches_tracked")
    }
