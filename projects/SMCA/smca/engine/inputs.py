"""What a run will read, looked at before anything is written."""

import os

from detectron2.config import instantiate
from omegaconf import DictConfig
from torch import nn

from smca.checkpoint import frozen_norm_without_weights, load_initial_weights
from smca.config import num_classes_of
from smca.data.class_names import class_names
from smca.data.detection_dataset import (
    check_classes,
    check_evaluated_classes,
    check_same_class_names,
)
from smca.data.loader import check_batch_size
from smca.device import find_device

from .precision import DTYPES
from .run_directory import has_checkpoint
from .schedule import learning_rate_factor


def check_inputs(cfg: DictConfig, *, training: bool, resume: bool = False) -> None:
    """
    Args:
        cfg: the experiment.
        training: whether it is to be trained, or evaluated only.
        resume: whether the last checkpoint of ``train.output_dir``, if any, takes the place of the initial weights.

    Raises:
        ValueError: one sentence that names the field or file and what to do.
    """
    find_device(cfg.train.device, option="train.device")
    if training:
        _check_settings(cfg)
    for split in ("train", "test") if training else ("test",):
        node = cfg.dataloader[split].dataset
        dataset = instantiate(node)
        num_classes = num_classes_of(cfg.model)
        if num_classes is not None:
            check_classes(dataset, num_classes, str(node.names))
            if split == "test":
                check_evaluated_classes(node.names, num_classes)
    if training:
        check_same_class_names(
            cfg.dataloader.train.dataset.names, cfg.dataloader.test.dataset.names
        )
    source = cfg.train.init_checkpoint
    if source and "://" not in source and not os.path.isfile(source):
        raise ValueError(f"train.init_checkpoint: there is no file {source}")
    if resume and has_checkpoint(cfg.train.output_dir):
        return
    # On a model that is thrown away: weights that don't fit show before anything is written.
    initialize(cfg, instantiate(cfg.model), training=training, report=False)


def initialize(cfg: DictConfig, model: nn.Module, *, training: bool, report: bool = True) -> None:
    """Load ``train.init_checkpoint``.

    Raises:
        ValueError: if the weights do not fit, or are needed and not given.
    """
    source = cfg.train.init_checkpoint
    if source:
        load_initial_weights(model, source, class_names=model_class_names(cfg), report=report)
    elif not training:
        raise ValueError(
            "--eval-only needs weights: set train.init_checkpoint=FILE, or add --resume to evaluate the last "
            "checkpoint of train.output_dir"
        )
    if training and frozen_norm_without_weights(model):
        raise ValueError(
            "the backbone's norms are frozen, but no weights are loaded into them, so it could not "
            "learn: set train.init_checkpoint=torchvision://resnet50, or model.backbone.norm=BN and "
            "model.backbone.freeze_at=0 to train from scratch"
        )


def model_class_names(cfg: DictConfig) -> tuple[str, ...]:
    """Names of the model's classes; none if the data set has none, or another number of them."""
    names = class_names(cfg)
    return names if len(names) == num_classes_of(cfg.model) else ()


def _check_settings(cfg: DictConfig) -> None:
    settings = cfg.train
    check_batch_size(cfg.dataloader.train.total_batch_size, settings.accumulate_steps)
    if settings.amp.enabled and settings.amp.dtype not in DTYPES:
        raise ValueError(
            f"train.amp.dtype {settings.amp.dtype!r} must be one of {', '.join(DTYPES)}"
        )
    if settings.ema.enabled and not 0 <= settings.ema.decay < 1:
        raise ValueError(f"train.ema.decay {settings.ema.decay} must be at least 0 and below 1")
    if settings.skip_nonfinite is not None and settings.skip_nonfinite < 0:
        raise ValueError(
            f"train.skip_nonfinite {settings.skip_nonfinite} must be at least 0; null is 0, in float16 16"
        )
    learning_rate_factor(cfg)
    keep = settings.checkpointer.max_to_keep
    if keep is not None and keep < 2:
        raise ValueError(
            f"train.checkpointer.max_to_keep={keep}: keep at least 2, or nothing is left if the newest is damaged; "
            "null keeps all"
        )
