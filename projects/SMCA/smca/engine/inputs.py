"""What a run will read, looked at before anything is written."""

import copy
import os
from typing import Any

from detectron2.config import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import nn

from smca.checkpoint import frozen_norm_without_weights, load_initial_weights
from smca.description.model_fields import num_classes_of
from smca.data.checks.dataset_checks import (
    check_classes,
    check_evaluated_classes,
    check_has_objects,
    check_same_class_names,
    warn_crowded,
)
from smca.data.loader import check_batch_size
from smca.data.sources.class_names import class_names
from smca.device import find_device
from smca.engine.run.run_directory import check_output_dir, has_checkpoint
from smca.engine.settings.best_metric import check_metric
from smca.engine.settings.setting_checks import check_settings
from smca.errors import InputError

from .schedule import check_length, fill_schedule


def check_inputs(cfg: DictConfig, *, training: bool, resume: bool = False) -> None:
    """
    Args:
        cfg: the experiment.
        training: whether it is to be trained, or evaluated only.
        resume: whether the last checkpoint of ``train.output_dir``, if any, takes the place of the initial weights.

    Raises:
        InputError: one sentence that names the field or file and what to do.
    """
    check_settings(cfg, training=training)
    find_device(cfg.train.device, option="train.device")
    if training:
        check_batch_size(cfg.dataloader.train.total_batch_size, cfg.train.accumulate_steps)
    check_output_dir(cfg.train.output_dir)
    for split in ("train", "test") if training else ("test",):
        node = cfg.dataloader[split].dataset
        dataset = _build(node, f"dataloader.{split}.dataset")
        _check_mapper(cfg.dataloader[split], f"dataloader.{split}.mapper")
        num_classes = num_classes_of(cfg.model)
        if num_classes is not None:
            check_classes(dataset, num_classes, str(node.names))
            if split == "test":
                check_evaluated_classes(node.names, num_classes)
        if split == "train" and cfg.train.epochs is not None:
            check_length(cfg.train.epochs, len(dataset) / cfg.dataloader.train.total_batch_size)
        if split == "train":
            check_has_objects(dataset, str(node.names))
            queries = OmegaConf.select(cfg, "model.decoder.num_queries")
            if isinstance(queries, int):
                warn_crowded(dataset, queries, str(node.names))
    if training:
        check_same_class_names(
            cfg.dataloader.train.dataset.names, cfg.dataloader.test.dataset.names
        )
        check_metric(cfg)
    source = cfg.train.init_checkpoint
    if source and "://" not in source and not os.path.isfile(source):
        problem = f"{source} is a folder" if os.path.isdir(source) else f"there is no file {source}"
        raise InputError(f"train.init_checkpoint: {problem}")
    if resume and has_checkpoint(cfg.train.output_dir):
        return
    # On a model that is thrown away: what doesn't fit shows before anything is written.
    model = _build(cfg.model, "model")
    initialize(cfg, model, training=training, report=False)
    if training:
        trial = copy.deepcopy(cfg)
        trial.optimizer.params.model = model
        _build(trial.optimizer, "optimizer")
        fill_schedule(
            trial.lr_multiplier, iterations_per_epoch=1.0, max_iter=1, training_epochs=None
        )
        _build(trial.lr_multiplier, "lr_multiplier")


def _check_mapper(loader: DictConfig, name: str) -> None:
    """A loader of one's own may have none."""
    if "mapper" in loader and not callable(_build(loader.mapper, name)):
        raise InputError(
            f"{name}={loader.mapper} is none: it must turn a dataset dict into the model's input"
        )


def _build(node: DictConfig, name: str) -> Any:
    try:
        return instantiate(node)
    except (TypeError, AttributeError, AssertionError, RuntimeError, KeyError) as error:
        # Of an argument that the part does not take, or cannot work with. A KeyError's text is the key alone.
        reason = (str(error) or type(error).__name__).splitlines()[0]
        reason = f"there is no {reason}" if isinstance(error, KeyError) else reason
        raise InputError(f"{name} of this config cannot be built: {reason}") from error


def initialize(cfg: DictConfig, model: nn.Module, *, training: bool, report: bool = True) -> None:
    """Load ``train.init_checkpoint``: what fits for a training, all of it for an evaluation.

    Raises:
        InputError: if the weights do not fit, or are needed and not given.
    """
    source = cfg.train.init_checkpoint
    outcome = None
    if source:
        outcome = load_initial_weights(
            model, source, class_names=model_class_names(cfg), report=report
        )
    if outcome is not None and not training and outcome.misfit():
        raise InputError(
            f"--eval-only: {source} is not of this model, and parts left as initialised would make any number wrong: "
            f"{outcome.misfit()}; evaluate with the config and the classes it was trained with (config.yaml beside it)"
        )
    if not source and not training:
        raise InputError(
            "--eval-only needs weights: set train.init_checkpoint=FILE, or add --resume to evaluate the last "
            "checkpoint of train.output_dir"
        )
    if training and frozen_norm_without_weights(model):
        why = "no weights are loaded into them"
        if outcome is not None and outcome.misfit():
            why = f"{source} has no weights that fit all of them ({outcome.misfit()})"
        raise InputError(
            f"the backbone's norms are frozen, but {why}, so it could not "
            "learn: set train.init_checkpoint=torchvision://resnet50, or model.backbone.norm=BN and "
            "model.backbone.freeze_at=0 to train from scratch"
        )


def model_class_names(cfg: DictConfig) -> tuple[str, ...]:
    """Names of the model's classes; none if the data set has none, or another number of them."""
    names = class_names(cfg)
    return names if len(names) == num_classes_of(cfg.model) else ()
