"""From a run's inputs to a trained or evaluated model."""

import inspect
import logging

from detectron2.config import instantiate
from detectron2.engine import hooks
from detectron2.engine.defaults import create_ddp_model
from detectron2.utils import comm
from omegaconf import DictConfig
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from smca.compilation import compile_parts
from smca.description.model_info import model_info_from_lazy
from smca.engine.run.checkpoints import CheckpointHook, RunCheckpointer
from smca.engine.run.newest_checkpoint import load_newest_weights
from smca.engine.run.record import RecordHook
from smca.engine.run.run_directory import has_checkpoint
from smca.engine.run.run_settings import compare_with_start, record_resumption
from smca.engine.settings.best_metric import best_metric
from smca.errors import InputError
from smca.evaluation import EvaluationHook
from smca.main_process import run_on_main

from .averages import WeightAverage
from .early_stopping import EarlyStoppingHook
from .inputs import RunInputs
from .precision import MixedPrecision
from .schedule import few_steps_warning, iteration_of_epoch
from .trainer import Trainer

logger = logging.getLogger("smca.engine")

# float16 has to find its loss scale first, which costs a few steps.
FLOAT16_SKIPS = 16


def evaluate_only(inputs: RunInputs, *, resume: bool) -> dict:
    """Evaluate ``train.init_checkpoint``, or with ``resume`` the last checkpoint of ``train.output_dir``.

    Returns:
        Results by task, empty on ranks other than the first.

    Raises:
        InputError: if there is no such checkpoint.
    """
    folder = inputs.cfg.train.output_dir
    if resume and has_checkpoint(folder):
        load_newest_weights(inputs.model, folder, class_names=inputs.class_names)
    else:
        inputs.initialize()
    return inputs.evaluate(inputs.model)


def prepare_training(inputs: RunInputs, *, resume: bool) -> tuple[Trainer, int, int]:
    """The trainer of a run, with its hooks and weights.

    Args:
        inputs: of the run.
        resume: continue from the last checkpoint of ``train.output_dir`` if there is one.

    Returns:
        The trainer, and the first and last iteration for its ``train``.

    Raises:
        InputError: if weights do not fit, or are needed and not given.
    """
    cfg, settings = inputs.cfg, inputs.cfg.train
    resuming = resume and has_checkpoint(settings.output_dir)
    if resume and not resuming:
        logger.warning(
            "--resume: %s holds no checkpoint, so training starts at iteration 0.",
            settings.output_dir,
        )
    changes = run_on_main(lambda: compare_with_start(cfg)) if resuming else []
    loader, max_iter = inputs.train_loader, inputs.max_iter
    if not resuming:
        inputs.initialize()
    checkpointer = _build_checkpointer(inputs)
    trainer = checkpointer.trainer
    trainer.register_hooks(_build_hooks(inputs, checkpointer))
    start = _resume(checkpointer, cfg, changes, max_iter) if resuming else 0
    logger.info(
        "Training %d iterations of %d images (%.2f epochs of %d images) on %d x %s.",
        max_iter, loader.total_batch_size, max_iter / loader.iterations_per_epoch, loader.num_images,
        comm.get_world_size(), inputs.device.type,
    )  # fmt: skip
    few = few_steps_warning(max_iter, loader.iterations_per_epoch, by_epochs=not settings.max_iter)
    if few is not None and start == 0:
        logger.warning(few)
    return trainer, start, max_iter


def _build_checkpointer(inputs: RunInputs) -> RunCheckpointer:
    """The trainer, and what saves all of it."""
    settings, model = inputs.cfg.train, inputs.model
    # Before the wrapper, whose parameters are the same.
    optimizer = inputs.optimizer
    if settings.get("compile", False):
        compile_parts(model)
    distributed = _distribute(model, settings.ddp)
    # Behind the wrapper, which gives all processes the same weights.
    average = WeightAverage(model, decay=settings.ema.decay) if settings.ema.enabled else None
    trainer = Trainer(
        model=distributed,
        loader=inputs.train_loader,
        optimizer=optimizer,
        clip_grad_norm=settings.clip_grad_norm,
        accumulate_steps=settings.accumulate_steps,
        precision=MixedPrecision(
            device_type=inputs.device.type,
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
        info=model_info_from_lazy(
            inputs.cfg, class_names=inputs.class_names, class_ids=inputs.class_ids
        ),
        max_to_keep=settings.checkpointer.max_to_keep,
    )


def _resume(
    checkpointer: RunCheckpointer, cfg: DictConfig, changes: list[str], max_iter: int
) -> int:
    """Go on from the newest checkpoint; returns the first iteration to do, and says what differs from the start."""
    start = checkpointer.resume()
    if start > max_iter:
        raise InputError(
            f"--resume: {cfg.train.output_dir} holds {start} iterations, and this training is to end after "
            f"{max_iter}; raise train.max_iter or train.epochs, or give another train.output_dir"
        )
    for change in changes:
        logger.warning("--resume: %s.", change)
    if changes:
        run_on_main(lambda: record_resumption(cfg))
    return start


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


def _build_hooks(inputs: RunInputs, checkpointer: RunCheckpointer) -> list:
    settings, average = inputs.cfg.train, checkpointer.average
    per_epoch = inputs.train_loader.iterations_per_epoch

    def evaluate_weights() -> dict:
        checkpointer.average_statistics()
        results = inputs.evaluate(checkpointer.model)
        if average is not None:
            averaged = inputs.evaluate(average.model)
            results |= {f"{task}_ema": numbers for task, numbers in averaged.items()}
        return results

    evaluation = EvaluationHook(
        period=_period(settings.evaluation, per_epoch),
        evaluate=evaluate_weights,
        iters_per_epoch=per_epoch,
        output_dir=settings.output_dir,
        save_best=checkpointer.save_best,
        metric=best_metric(settings),
    )
    stopping = settings.early_stopping
    return [
        hooks.IterationTimer(),
        hooks.LRScheduler(scheduler=inputs.schedule),
        CheckpointHook(checkpointer, _period(settings.checkpointer, per_epoch)),
        evaluation,
        *(
            [EarlyStoppingHook(evaluation=evaluation, checkpointer=checkpointer, **stopping)]
            if stopping.patience is not None
            else []
        ),
        *(instantiate(hook) for hook in settings.hooks),
        RecordHook(
            output_dir=settings.output_dir,
            max_iter=inputs.max_iter,
            period=settings.log_period,
            services=settings.writers,
        ),
    ]


def _period(settings: DictConfig, per_epoch: float) -> int:
    """Iterations between two events: ``period`` if given, else ``period_epochs``; 0 is only at the end."""
    if settings.period is not None:
        return int(settings.period)
    return iteration_of_epoch(settings.period_epochs, per_epoch)
