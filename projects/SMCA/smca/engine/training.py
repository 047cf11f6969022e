"""From a LazyConfig to a trained or evaluated model: what ``train_net.py`` does."""

import inspect
import logging
import os
from collections.abc import Callable

import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import instantiate
from detectron2.engine import default_writers, hooks
from detectron2.engine.defaults import create_ddp_model
from detectron2.evaluation import inference_on_dataset
from detectron2.utils import comm
from detectron2.utils.registry import locate
from omegaconf import DictConfig
from torch import nn

from smca.checkpoint import frozen_norm_without_weights, load_initial_weights
from smca.config import num_classes_of
from smca.data.detection_dataset import check_classes, check_evaluated_classes
from smca.data.loader import check_batch_size
from smca.evaluation import EvaluationHook

from .run_directory import has_checkpoint
from .schedule import iteration_of_epoch
from .trainer import Trainer

logger = logging.getLogger("smca.engine")


def resolve_device(device: str) -> str:
    """ "auto" is "cuda" where there is one, else "cpu"; anything else is taken as it is.

    Raises:
        ValueError: if CUDA is asked for and there is none.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(
            f"train.device={device}, but PyTorch sees no CUDA device; use train.device=cpu"
        )
    return device


def check_inputs(cfg: DictConfig, *, training: bool, resume: bool = False) -> None:
    """Look at everything a run will read, before anything is written.

    Args:
        cfg: the experiment.
        training: whether it is to be trained, or evaluated only.
        resume: whether the last checkpoint of ``train.output_dir``, if any, takes the place of the initial weights.

    Raises:
        ValueError: one sentence that names the field or file and what to do.
    """
    resolve_device(cfg.train.device)
    if training:
        check_batch_size(cfg.dataloader.train.total_batch_size)
    for split in ("train", "test") if training else ("test",):
        node = cfg.dataloader[split].dataset
        dataset = instantiate(node)
        num_classes = num_classes_of(cfg.model)
        if num_classes is not None:
            check_classes(dataset, num_classes, str(node.names))
            if split == "test":
                check_evaluated_classes(node.names, num_classes)
    source = cfg.train.init_checkpoint
    if source and "://" not in source and not os.path.isfile(source):
        raise ValueError(f"train.init_checkpoint: there is no file {source}")
    if resume and has_checkpoint(cfg.train.output_dir):
        return
    # On a model that is thrown away: weights that don't fit show before anything is written.
    _initialize(cfg, instantiate(cfg.model), training=training, report=False)


def evaluate(cfg: DictConfig, model: nn.Module) -> dict:
    """Run the config's evaluator over its test data; results by task, empty on ranks other than the first."""
    return inference_on_dataset(
        model, instantiate(cfg.dataloader.test), instantiate(cfg.dataloader.evaluator)
    )


def build_model(cfg: DictConfig) -> nn.Module:
    model = instantiate(cfg.model)
    return model.to(resolve_device(cfg.train.device))


def evaluate_only(cfg: DictConfig, *, resume: bool) -> dict:
    """Evaluate ``train.init_checkpoint``, or with ``resume`` the last checkpoint of ``train.output_dir``.

    Raises:
        ValueError: if there is no such checkpoint.
    """
    model = build_model(cfg)
    if resume and has_checkpoint(cfg.train.output_dir):
        DetectionCheckpointer(model, cfg.train.output_dir).resume_or_load("", resume=True)
    else:
        _initialize(cfg, model, training=False)
    return evaluate(cfg, model)


def prepare_training(cfg: DictConfig, *, resume: bool) -> tuple[Trainer, int, int]:
    """Build everything a training needs and load its weights.

    Args:
        cfg: experiment with ``model``, ``dataloader``, ``optimizer``, ``lr_multiplier`` and ``train``.
        resume: continue from the last checkpoint of ``train.output_dir`` if there is one.

    Returns:
        The trainer, and the first and last iteration for its ``train``.

    Raises:
        ValueError: if weights do not fit, or are needed and not given.
    """
    resuming = resume and has_checkpoint(cfg.train.output_dir)
    if resume and not resuming:
        logger.warning(
            "--resume: %s holds no checkpoint, so training starts at iteration 0.",
            cfg.train.output_dir,
        )
    model = build_model(cfg)
    if not resuming:
        _initialize(cfg, model, training=True)
    cfg.optimizer.params.model = model
    optimizer = instantiate(cfg.optimizer)
    loader = instantiate(cfg.dataloader.train)
    per_epoch = loader.iterations_per_epoch
    max_iter = cfg.train.max_iter or iteration_of_epoch(cfg.train.epochs, per_epoch)
    _fill_schedule(cfg.lr_multiplier, iterations_per_epoch=per_epoch, max_iter=max_iter)

    trainer = Trainer(
        model=create_ddp_model(model, **cfg.train.ddp),
        loader=loader,
        optimizer=optimizer,
        clip_grad_norm=cfg.train.clip_grad_norm,
    )
    checkpointer = DetectionCheckpointer(model, cfg.train.output_dir, trainer=trainer)
    trainer.register_hooks(_build_hooks(cfg, model, checkpointer, per_epoch, max_iter))
    start = 0
    if resuming:
        checkpointer.resume_or_load("", resume=True)
        start = trainer.iter + 1
    logger.info(
        "Training %d iterations of %d images (%.2f epochs of %d images) on %s.",
        max_iter, loader.total_batch_size, max_iter / per_epoch, loader.num_images, model.device,
    )  # fmt: skip
    return trainer, start, max_iter


def _initialize(cfg: DictConfig, model: nn.Module, *, training: bool, report: bool = True) -> None:
    source = cfg.train.init_checkpoint
    if source:
        load_initial_weights(model, source, report=report)
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


def _fill_schedule(node: DictConfig, **known: float) -> None:
    """Give a schedule what only the engine knows; Detectron2's own schedules take none of it."""
    parameters = inspect.signature(_target(node)).parameters
    for name, value in known.items():
        if name in parameters:
            node[name] = value


def _target(node: DictConfig) -> Callable:
    target = node._target_
    return locate(target) if isinstance(target, str) else target


def _build_hooks(
    cfg: DictConfig,
    model: nn.Module,
    checkpointer: DetectionCheckpointer,
    per_epoch: float,
    max_iter: int,
) -> list:
    settings = cfg.train
    writers = (
        hooks.PeriodicWriter(default_writers(settings.output_dir, max_iter), settings.log_period)
        if comm.is_main_process()
        else None
    )
    saving = (
        hooks.PeriodicCheckpointer(
            checkpointer,
            period=_period(settings.checkpointer, per_epoch) or max_iter,
            max_to_keep=settings.checkpointer.max_to_keep,
        )
        if comm.is_main_process()
        else None
    )
    return [
        hooks.IterationTimer(),
        hooks.LRScheduler(scheduler=instantiate(cfg.lr_multiplier)),
        saving,
        EvaluationHook(
            period=_period(settings.evaluation, per_epoch),
            evaluate=lambda: evaluate(cfg, model),
            iters_per_epoch=per_epoch,
            output_dir=settings.output_dir,
            checkpointer=checkpointer,
            metric=settings.evaluation.metric,
        ),
        writers,
    ]


def _period(settings: DictConfig, per_epoch: float) -> int:
    """Iterations between two events: ``period`` if given, else ``period_epochs``; 0 is only at the end."""
    if settings.period is not None:
        return int(settings.period)
    return iteration_of_epoch(settings.period_epochs, per_epoch)
