"""What a run reads and builds, each part once: the checks before anything is written use what the run then uses."""

import contextlib
import copy
import functools
import logging
import os
from typing import Any

import torch
from detectron2.config import instantiate
from detectron2.evaluation import DatasetEvaluators, inference_on_dataset
from detectron2.utils import comm
from detectron2.utils.env import seed_all_rng
from fvcore.common.param_scheduler import ParamScheduler
from omegaconf import DictConfig, ListConfig, OmegaConf
from torch import nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from smca.checkpoint import frozen_norm_without_weights, load_initial_weights
from smca.data import (
    TrainLoader,
    check_classes,
    check_evaluated_classes,
    check_has_objects,
    check_same_class_names,
    class_ids,
    class_names,
    fill_num_classes,
    warn_crowded,
)
from smca.data.loader import check_batch_size
from smca.description.model_fields import num_classes_of
from smca.device import find_device
from smca.engine.run.run_directory import check_output_dir, has_checkpoint
from smca.engine.settings.best_metric import check_metric
from smca.engine.settings.setting_checks import check_settings
from smca.errors import InputError
from smca.experiments.targets import check_arguments

from .schedule import check_length, fill_schedule, iteration_of_epoch, learning_rate_factor

logger = logging.getLogger("smca.engine")


class RunInputs:
    """The parts of a run, built when they are asked for, and then the same ones for as long as it takes.

    Every process has its own. The config stays as it was given, but for the number of classes, which comes from the
    data where it is null.

    Attributes:
        cfg: experiment with ``model``, ``dataloader``, ``optimizer``, ``lr_multiplier`` and ``train``.
        training: whether it is to be trained, or evaluated only.
        device: that of ``train.device``.
    """

    def __init__(self, cfg: DictConfig, *, training: bool):
        """
        Raises:
            InputError: for a field that cannot be right, or classes that cannot be read.
        """
        check_settings(cfg, training=training)
        self.device = find_device(cfg.train.device, option="train.device")
        self.cfg = cfg
        self.training = training
        self._is_initialized = False
        fill_num_classes(cfg)

    def check(self, *, resume: bool = False) -> None:
        """Build everything and look at it; nothing is written.

        Args:
            resume: whether the last checkpoint of ``train.output_dir``, if any, takes the place of the initial weights.

        Raises:
            InputError: one sentence that names the field or file and what to do.
        """
        cfg = self.cfg
        if self.training:
            check_batch_size(cfg.dataloader.train.total_batch_size, cfg.train.accumulate_steps)
        check_output_dir(cfg.train.output_dir)
        if self.training:
            _ = self.train_loader
        _ = self.test_loader
        if self.training:
            names = (cfg.dataloader[split].dataset.names for split in ("train", "test"))
            check_same_class_names(*names)
            check_metric(cfg)
        # Built when it is first used: one of a user's own may write files.
        _check_all_arguments(cfg.dataloader.get("evaluator"), "dataloader.evaluator")
        source = cfg.train.init_checkpoint
        if source and "://" not in source and not os.path.isfile(source):
            what = (
                f"{source} is a folder" if os.path.isdir(source) else f"there is no file {source}"
            )
            raise InputError(f"train.init_checkpoint: {what}")
        if not (resume and has_checkpoint(cfg.train.output_dir)):
            self.initialize()
        _ = (self.model, self.optimizer, self.schedule) if self.training else self.model

    @functools.cached_property
    def train_loader(self) -> TrainLoader:
        cfg = self.cfg
        names = str(cfg.dataloader.train.dataset.names)
        dataset = self._dataset("train")
        if cfg.train.epochs is not None:
            check_length(cfg.train.epochs, len(dataset) / cfg.dataloader.train.total_batch_size)
        check_has_objects(dataset, names)
        queries = OmegaConf.select(cfg, "model.decoder.num_queries")
        if isinstance(queries, int):
            warn_crowded(dataset, queries, names)
        return self._loader("train", dataset)

    @functools.cached_property
    def test_loader(self) -> DataLoader:
        dataset = self._dataset("test")
        num_classes = num_classes_of(self.cfg.model)
        if num_classes is not None:
            check_evaluated_classes(self.cfg.dataloader.test.dataset.names, num_classes)
        return self._loader("test", dataset)

    @functools.cached_property
    def evaluator(self) -> Any:
        """With the ground truth, which it reads when it is built."""
        built = instantiate(self.cfg.dataloader.get("evaluator"))
        return DatasetEvaluators(built or []) if built is None or isinstance(built, list) else built

    @functools.cached_property
    def model(self) -> nn.Module:
        """Drawn from ``train.seed``, and on its device."""
        seed_all_rng(self.cfg.train.seed + comm.get_rank())
        model = build(self.cfg.model, "model").to(self.device)
        if self.device.type == "cuda":
            # As the images are laid out; weights in another way would be copied in each forward pass.
            model = model.to(memory_format=torch.channels_last)
        return model

    @functools.cached_property
    def optimizer(self) -> Optimizer:
        node = copy.deepcopy(self.cfg.optimizer)
        node.params.model = self.model
        optimizer = build(node, "optimizer")
        factor = learning_rate_factor(self.cfg)
        for group in optimizer.param_groups:
            group["lr"] *= factor
        if factor != 1:
            logger.info("Learning rates are multiplied by %.4g for the batch size.", factor)
        return optimizer

    @functools.cached_property
    def schedule(self) -> ParamScheduler:
        node = copy.deepcopy(self.cfg.lr_multiplier)
        fill_schedule(
            node,
            iterations_per_epoch=self.train_loader.iterations_per_epoch,
            max_iter=self.max_iter,
            training_epochs=None if self.cfg.train.max_iter else self.cfg.train.epochs,
        )
        return build(node, "lr_multiplier")

    @property
    def max_iter(self) -> int:
        train = self.cfg.train
        per_epoch = self.train_loader.iterations_per_epoch
        return train.max_iter or iteration_of_epoch(train.epochs, per_epoch)

    @functools.cached_property
    def class_names(self) -> tuple[str, ...]:
        """Names of the model's classes; none if the data set has none, or another number of them."""
        names = class_names(self.cfg)
        return names if len(names) == num_classes_of(self.cfg.model) else ()

    @functools.cached_property
    def class_ids(self) -> tuple[int | str, ...]:
        """Category ids of these classes in the data set; none if one of them has none."""
        return class_ids(self.cfg) if self.class_names else ()

    def initialize(self) -> None:
        """Load ``train.init_checkpoint`` into the model: what fits for a training, all of it for an evaluation.

        Raises:
            InputError: if the weights do not fit, or are needed and not given.
        """
        if self._is_initialized:
            return
        model, source, outcome = self.model, self.cfg.train.init_checkpoint, None
        if source:
            outcome = load_initial_weights(model, source, class_names=self.class_names)
        misfit = "" if outcome is None else outcome.misfit()
        if not self.training and not source:
            raise InputError(
                "--eval-only needs weights: set train.init_checkpoint=FILE, or add --resume to evaluate the last "
                "checkpoint of train.output_dir"
            )
        if not self.training and misfit:
            raise InputError(
                f"--eval-only: {source} is not of this model, and parts left as initialised would make any number "
                f"wrong: {misfit}; evaluate with the config and the classes it was trained with (config.yaml beside it)"
            )
        if self.training and frozen_norm_without_weights(model):
            why = "no weights are loaded into them"
            if misfit:
                why = f"{source} has no weights that fit all of them ({misfit})"
            raise InputError(
                f"the backbone's norms are frozen, but {why}, so it could not "
                "learn: set train.init_checkpoint=torchvision://resnet50, or model.backbone.norm=BN and "
                "model.backbone.freeze_at=0 to train from scratch"
            )
        self._is_initialized = True

    def evaluate(self, model: nn.Module) -> dict:
        """Run the config's evaluator over its test data; results by task, empty on ranks other than the first."""
        results = inference_on_dataset(model, self.test_loader, self.evaluator)
        # The predictions take room.
        self.evaluator.reset()
        return results

    def _dataset(self, split: str) -> Any:
        """Dataset dicts, all of which a loader packs: to keep them would take several times the memory."""
        # First: it registers data of one's own once more, and so forgets what their loading has found out.
        with contextlib.suppress(InputError):
            _ = self.class_ids
        node = self.cfg.dataloader[split].dataset
        dataset = build(node, f"dataloader.{split}.dataset")
        num_classes = num_classes_of(self.cfg.model)
        if num_classes is not None:
            check_classes(dataset, num_classes, str(node.names))
        return dataset

    def _loader(self, split: str, dataset: Any) -> Any:
        field = f"dataloader.{split}"
        parts = {**self.cfg.dataloader[split], "dataset": dataset}
        # A loader of one's own may have none.
        if "mapper" in parts:
            parts["mapper"] = build(parts["mapper"], f"{field}.mapper")
            if not callable(parts["mapper"]):
                raise InputError(
                    f"{field}.mapper={parts['mapper']} is none: it must turn a dataset dict into the model's input"
                )
        return build(parts, field)


def build(node: Any, field: str) -> Any:
    """A part of the config, with those inside of it.

    Raises:
        InputError: for an argument that a part does not take, or one that it lacks, by its field. What a part itself
            raises stays as it is.
    """
    _check_all_arguments(node, field)
    return instantiate(node)


def _check_all_arguments(node: Any, field: str) -> None:
    if isinstance(node, DictConfig | dict):
        if "_target_" in node:
            check_arguments(node, field)
        children = [(name, node[name]) for name in node]
    elif isinstance(node, ListConfig):
        children = list(enumerate(node))
    else:
        return
    for name, child in children:
        _check_all_arguments(child, f"{field}.{name}")
