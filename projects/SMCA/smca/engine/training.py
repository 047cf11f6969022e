"""From a LazyConfig to a trained or evaluated model: what ``train_net.py`` does."""

import copy
import inspect
import logging

import torch
from detectron2.config import instantiate
from detectron2.engine import hooks
from detectron2.engine.defaults import create_ddp_model
from detectron2.evaluation import inference_on_dataset
from detectron2.utils import comm
from omegaconf import DictConfig
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from smca.checkpoint import model_info_from_lazy
from smca.data import TrainLoader
from smca.device import find_device
from smca.engine.run.checkpoints import CheckpointHook, RunCheckpointer
from smca.engine.run.newest_checkpoint import load_newest_weights
from smca.engine.run.record import RecordHook
from smca.engine.run.run_directory import has_checkpoint
from smca.engine.run.run_settings import compare_with_start, record_resumption
from smca.engine.settings.best_metric import best_metric
from smca.errors import InputError
from smca.evaluation import EvaluationHook
from smca.main_process import run_on_main

from .ema import WeightAverage
from .inputs import initialize, model_class_names
from .precision import MixedPrecision
from .schedule import (
    few_steps_warning,
    fill_schedule,
    iteration_of_epoch,
    learning_rate_factor,
)
from .trainer import Trainer

logger = logging.getLogger("smca.engine")

# float16 has to find its loss scale first, which costs a few steps.
FLOAT16_SKIPS = 16


def evaluate(cfg: DictConfig, model: nn.Module) -> dict:
    """Run the config's evaluator over its test data; results by task, empty on ranks other than the first."""
    return inference_on_dataset(
        model, instantiate(cfg.dataloader.test), instantiate(cfg.dataloader.evaluator)
    )


def build_model(cfg: DictConfig) -> nn.Module:
    model = instantiate(cfg.model).to(find_device(cfg.train.device, option="train.device"))
    if model.device.type == "cuda":
        # As the images are laid out; weights in another way would be copied in each forward pass.
        model = model.to(memory_format=torch.channels_last)
    return model


def evaluate_only(cfg: DictConfig, *, resume: bool) -> dict:
    """Evaluate ``train.init_checkpoint``, or with ``resume`` the last checkpoint of ``train.output_dir``.

    Raises:
        InputError: if there is no such checkpoint.
    """
    model = build_model(cfg)
    if resume and has_checkpoint(cfg.train.output_dir):
        load_newest_weights(model, cfg.train.output_dir, class_names=model_class_names(cfg))
    else:
        initialize(cfg, model, training=False)
    return evaluate(cfg, model)


def prepare_training(cfg: DictConfig, *, resume: bool) -> tuple[Trainer, int, int]:
    """Build everything a training needs and load its weights.

    Args:
        cfg: experiment with ``model``, ``dataloader``, ``optimizer``, ``lr_multiplier`` and ``train``.
        resume: continue from the last checkpoint of ``train.output_dir`` if there is one.

    Returns:
        The trainer, and the first and last iteration for its ``train``.

    Raises:
        InputError: if weights do not fit, or are needed and not given.
    """
    settings = cfg.train
    resuming = resume and has_checkpoint(settings.output_dir)
    if resume and not resuming:
        logger.warning(
            "--resume: %s holds no checkpoint, so training starts at iteration 0.",
            settings.output_dir,
        )
    # As the user wrote it; building puts objects into it.
    given = copy.deepcopy(cfg)
    changes = run_on_main(lambda: compare_with_start(given)) if resuming else []
    model = build_model(cfg)
    if not resuming:
        initialize(cfg, model, training=True)
    optimizer = _build_optimizer(cfg, model)
    loader = instantiate(cfg.dataloader.train)
    per_epoch = loader.iterations_per_epoch
    max_iter = settings.max_iter or iteration_of_epoch(settings.epochs, per_epoch)
    fill_schedule(
        cfg.lr_multiplier,
        iterations_per_epoch=per_epoch,
        max_iter=max_iter,
        training_epochs=None if settings.max_iter else settings.epochs,
    )

    checkpointer = _build_checkpointer(cfg, model, optimizer, loader)
    trainer = checkpointer.trainer
    trainer.register_hooks(_build_hooks(cfg, checkpointer, per_epoch, max_iter))
    start = _resume(checkpointer, given, changes, max_iter) if resuming else 0
    logger.info(
        "Training %d iterations of %d images (%.2f epochs of %d images) on %d x %s.",
        max_iter, loader.total_batch_size, max_iter / per_epoch, loader.num_images,
        comm.get_world_size(), model.device.type,
    )  # fmt: skip
    few = few_steps_warning(max_iter, per_epoch, by_epochs=not settings.max_iter)
    if few is not None and start == 0:
        logger.warning(few)
    return trainer, start, max_iter


def _build_checkpointer(
    cfg: DictConfig, model: nn.Module, optimizer: Optimizer, loader: TrainLoader
) -> RunCheckpointer:
    """The trainer, and what saves all of it."""
    settings = cfg.train
    distributed = _distribute(model, settings.ddp)
    # Behind the wrapper, which gives all processes the same weights.
    average = WeightAverage(model, decay=settings.ema.decay) if settings.ema.enabled else None
    trainer = Trainer(
        model=distributed,
        loader=loader,
        optimizer=optimizer,
        clip_grad_norm=settings.clip_grad_norm,
        accumulate_steps=settings.accumulate_steps,
        precision=MixedPrecision(
            device_type=model.device.type,
            dtype=settings.amp.dtype if settings.amp.enabled else None,
        ),
        average=average,
        skip_nonfinite=_tolerated_skips(settings),
        seed=settings.seed,
    )
    return RunCheckpointer(
        directory=settings.output_dir,
        model=model,
        trainer=trainer,
        average=average,
        info=model_info_from_lazy(cfg, class_names=model_class_names(cfg)),
        max_to_keep=settings.checkpointer.max_to_keep,
    )


def _resume(
    checkpointer: RunCheckpointer, given: DictConfig, changes: list[str], max_iter: int
) -> int:
    """Go on from the newest checkpoint; returns the first iteration to do, and says what differs from the start."""
    start = checkpointer.resume()
    if start > max_iter:
        raise InputError(
            f"--resume: {given.train.output_dir} holds {start} iterations, and this training is to end after "
            f"{max_iter}; raise train.max_iter or train.epochs, or give another train.output_dir"
        )
    for change in changes:
        logger.warning("--resume: %s.", change)
    if changes:
        run_on_main(lambda: record_resumption(given))
    return start


def _build_optimizer(cfg: DictConfig, model: nn.Module) -> Optimizer:
    cfg.optimizer.params.model = model
    optimizer = instantiate(cfg.optimizer)
    factor = learning_rate_factor(cfg)
    for group in optimizer.param_groups:
        group["lr"] *= factor
    if factor != 1:
        logger.info("Learning rates are multiplied by %.4g for the batch size.", factor)
    return optimizer


def _distribute(model: nn.Module, settings: DictConfig) -> nn.Module:
    keywords = dict(settings)
    if model.device.type == "cpu":
        keywords["device_ids"] = None
    if "forward_sync_buffers" in inspect.signature(DistributedDataParallel).parameters:
        # The new name of the same thing; the old one warns.
        keywords["forward_sync_buffers"] = keywords.pop("broadcast_buffers")
    return create_ddp_model(model, **keywords)


def _tolerated_skips(settings: DictConfig) -> int:
    if settings.skip_nonfinite is not None:
        return settings.skip_nonfinite
    return FLOAT16_SKIPS if settings.amp.enabled and settings.amp.dtype == "float16" else 0


def _build_hooks(
    cfg: DictConfig, checkpointer: RunCheckpointer, per_epoch: float, max_iter: int
) -> list:
    settings, average = cfg.train, checkpointer.average

    def evaluate_weights() -> dict:
        checkpointer.average_statistics()
        results = evaluate(cfg, checkpointer.model)
        if average is not None:
            averaged = evaluate(cfg, average.model)
            results |= {f"{task}_ema": numbers for task, numbers in averaged.items()}
        return results

    return [
        hooks.IterationTimer(),
        hooks.LRScheduler(scheduler=instantiate(cfg.lr_multiplier)),
        CheckpointHook(checkpointer, _period(settings.checkpointer, per_epoch)),
        EvaluationHook(
            period=_period(settings.evaluation, per_epoch),
            evaluate=evaluate_weights,
            iters_per_epoch=per_epoch,
            output_dir=settings.output_dir,
            save_best=checkpointer.save_best,
            metric=best_metric(settings),
        ),
        *(instantiate(hook) for hook in settings.hooks),
        RecordHook(output_dir=settings.output_dir, max_iter=max_iter, period=settings.log_period),
    ]


def _period(settings: DictConfig, per_epoch: float) -> int:
    """Iterations between two events: ``period`` if given, else ``period_epochs``; 0 is only at the end."""
    if settings.period is not None:
        return int(settings.period)
    return iteration_of_epoch(settings.period_epochs, per_epoch)
