"""From what is given to the command, the directory of a run or a checkpoint, to what the report says of it."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable
from pathlib import Path

import detectron2.data.transforms as T
from detectron2.config import LazyCall as L
from detectron2.data import MetadataCatalog
from detectron2.evaluation import inference_on_dataset
from omegaconf import DictConfig, OmegaConf
from torch import nn

from smca.data import DetectionMapper, build_test_loader, load_detection_dataset
from smca.data.sources.coco_tables import describe_difference, match_classes
from smca.device import find_device
from smca.engine import RunInputs, has_checkpoint
from smca.engine.run.newest_checkpoint import newest_checkpoint
from smca.engine.run.record import METRICS
from smca.engine.run.run_directory import BEST
from smca.engine.run.run_settings import CONFIG
from smca.errors import InputError
from smca.evaluation import CocoEvaluator, CocoOutcome
from smca.experiments import list_configs, load_experiment
from smca.inference.trained_model import load_checkpoint

from .attention import attention_of
from .reported_run import ReportedRun, curves_or_reason, describe, outcome_of, training_facts


@dataclasses.dataclass(frozen=True)
class Options:
    """How runs and checkpoints are evaluated.

    Attributes:
        config: experiment in place of a run's own, and of a checkpoint.
        dataset: registered name of the data to evaluate on, in place of the experiment's.
        device: where.
        predict: whether to evaluate at all.
    """

    config: str | None = None
    dataset: str | None = None
    device: str = "auto"
    predict: bool = True


def report_of(source: str, options: Options) -> ReportedRun:
    """What there is to say of a run or checkpoint; it is evaluated here.

    Args:
        source: the output directory of a training, or a checkpoint: a file, a URL, or a name such as "smca://...".
        options: how.

    Raises:
        InputError: if it is neither, or what the options ask for cannot be done. What a run's directory lacks is said
            in the report instead.
    """
    if os.path.isdir(source):
        return _of_directory(Path(source), options)
    if not options.predict:
        raise InputError(
            f"{source} is a checkpoint, of which nothing can be said without predictions (--no-predictions)"
        )
    run = _evaluated_checkpoint(source, options)
    return dataclasses.replace(run, name=_short_name(source))


def _of_directory(folder: Path, options: Options) -> ReportedRun:
    config = options.config or str(folder / CONFIG)
    known = [name for name in (METRICS, CONFIG) if (folder / name).is_file()]
    if not known and not has_checkpoint(folder) and not (folder / BEST).is_file():
        raise InputError(
            f"{folder} is no output directory of a training: it has no {METRICS}, {CONFIG} or checkpoint"
        )
    curves, missing = curves_or_reason(folder / METRICS)
    run = ReportedRun(name=_short_name(folder), facts=training_facts(curves), curves=curves)
    if not options.predict:
        reason = "There is no evaluation: it was not asked for (--no-predictions)."
        return dataclasses.replace(run, missing=(*missing, reason))
    try:
        weights = _weights_in(folder)
        if options.config is None and not (folder / CONFIG).is_file():
            raise InputError(
                f"{folder} has no {CONFIG}; give the experiment of the run with --config-file"
            )
        evaluated = _evaluated(config, str(weights), options)
    except InputError as error:
        # Someone who asks for certain data or a certain config wants to know now.
        if options.dataset or options.config:
            raise
        reason = f"There is no evaluation: {str(error).rstrip('.')}."
        return dataclasses.replace(run, missing=(*missing, reason))
    return dataclasses.replace(
        evaluated,
        name=run.name,
        facts=(*evaluated.facts, *run.facts),
        curves=curves,
        missing=missing,
    )


def _weights_in(folder: Path) -> Path:
    """The newest checkpoint that is whole, else the best model."""
    if has_checkpoint(folder):
        return newest_checkpoint(folder)
    if (folder / BEST).is_file():
        return folder / BEST
    raise InputError(f"{folder} has no checkpoint yet")


def _evaluated_checkpoint(source: str, options: Options) -> ReportedRun:
    """With a config by it; without one the checkpoint describes its model, and the data is given or the zoo's."""
    if options.config is not None:
        return _evaluated(options.config, source, options)
    model, info = load_checkpoint(source)
    if options.dataset is None:
        if info.config_name not in list_configs():
            raise InputError(
                f"{source} does not say what to evaluate it on: name a data set with --dataset, or its experiment with "
                "--config-file"
            )
        return _evaluated(info.config_name, source, options)
    name = options.dataset
    dataset = load_detection_dataset(name)
    _check_same_classes(source, info.class_names, name)
    model.to(find_device(options.device))
    resize = T.ResizeShortestEdge(short_edge_length=info.min_size_test, max_size=info.max_size_test)
    mapper = DetectionMapper(
        is_train=False,
        augmentations=[resize],
        image_format=getattr(model, "input_format", None) or "BGR",
    )
    loader = build_test_loader(dataset=dataset, mapper=mapper, num_workers=2)
    evaluator = CocoEvaluator(name)
    inference_on_dataset(model, loader, evaluator)
    return _as_run(source, _or_refuse(evaluator, name), model, loader)


def _check_same_classes(source: str, known: tuple[str, ...], name: str) -> None:
    classes = tuple(MetadataCatalog.get(name).get("thing_classes") or ())
    if not known or not classes:
        return
    places = list(match_classes(known, classes).values())
    if places != list(range(len(known))) or len(known) != len(classes):
        difference = describe_difference(known, classes)
        raise InputError(
            f"{source} and data set {name} have different classes: {difference}; evaluate it on data of its classes"
        )


def _evaluated(config: str, weights: str, options: Options) -> ReportedRun:
    """As ``train_net.py --eval-only`` evaluates."""
    cfg = load_experiment(config)
    cfg.train.init_checkpoint = weights
    cfg.train.device = options.device
    if options.dataset is not None:
        _evaluate_on(cfg, options.dataset)
    inputs = RunInputs(cfg, training=False)
    inputs.initialize()
    inputs.evaluate(inputs.model)
    names = str(OmegaConf.select(cfg, "dataloader.test.dataset.names"))
    outcome = _or_refuse(inputs.evaluator, names)
    return _as_run(weights, outcome, inputs.model, inputs.test_loader)


def _as_run(weights: str, outcome: CocoOutcome, model: nn.Module, loader: Iterable) -> ReportedRun:
    return ReportedRun(
        name=weights,
        facts=(("weights", weights), ("evaluated on", describe(outcome))),
        outcome=outcome,
        draw_attention=attention_of(model, loader, outcome.dataset_name),
    )


def _evaluate_on(cfg: DictConfig, name: str) -> None:
    cfg.dataloader.test.dataset = L(load_detection_dataset)(names=name, filter_empty=False)
    cfg.dataloader.evaluator = L(CocoEvaluator)(dataset_name="${..test.dataset.names}")


def _or_refuse(evaluator: object, name: str) -> CocoOutcome:
    outcome = outcome_of(evaluator)
    if outcome is None:
        reason = "the experiment's evaluator is no smca.evaluation.CocoEvaluator"
        if isinstance(evaluator, CocoEvaluator):
            reason = f"data set {name} has no annotations"
        raise InputError(f"{reason}, so there is nothing to compare predictions with")
    return outcome


def _short_name(source: str | os.PathLike) -> str:
    """The last part of a path that says something."""
    path = Path(os.path.abspath(source)) if os.path.exists(source) else Path(source)
    return f"{path.parent.name}/{path.name}" if path.is_file() else path.name or str(source)
