"""What a report says of one run or checkpoint, as plain data."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from detectron2.evaluation import DatasetEvaluators

from smca.errors import InputError
from smca.evaluation import CocoEvaluator, CocoOutcome, CurvePoint, read_curves

from .attention import DrawAttention

LOSS = "total_loss"
_NUMBERS = ("AP", "AP50", "AP75")


@dataclasses.dataclass(frozen=True, eq=False)
class Curves:
    """Of a training.

    Attributes:
        numbers: AP, AP50 and AP75 in percent by name, of the averaged weights if there are any.
        loss: of all parts together.
        iterations_per_epoch: None if the training did not say.
    """

    numbers: Mapping[str, Sequence[CurvePoint]] = dataclasses.field(default_factory=dict)
    loss: Sequence[CurvePoint] = ()
    iterations_per_epoch: float | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class ReportedRun:
    """One column of a report.

    Attributes:
        name: for people.
        facts: what was evaluated, as pairs of a word and a text.
        curves: of its training; empty without one.
        outcome: of its evaluation, None without one.
        missing: sentences that say what the report lacks and why.
        draw_attention: draws where its model looked in an image, if that can be drawn.
    """

    name: str
    facts: tuple[tuple[str, str], ...] = ()
    curves: Curves = Curves()
    outcome: CocoOutcome | None = None
    missing: tuple[str, ...] = ()
    draw_attention: DrawAttention | None = None

    @property
    def recorded_ap(self) -> float | None:
        """AP that the training itself measured last."""
        points = self.curves.numbers.get("AP", ())
        return points[-1].value if points else None


def read_training_curves(metrics_file: Path) -> Curves:
    """The curves in a metrics.json.

    Raises:
        FileNotFoundError: there is no such file.
        InputError: it is no metrics.json.
    """
    tasks = ("bbox_ema", "bbox")
    names = [f"{task}/{name}" for task in tasks for name in _NUMBERS]
    found = read_curves(metrics_file, [*names, LOSS])
    task = next((task for task in tasks if found[f"{task}/AP"]), tasks[-1])
    points = [point for name in names for point in found[name] if point.epoch]
    return Curves(
        numbers={name: found[f"{task}/{name}"] for name in _NUMBERS if found[f"{task}/{name}"]},
        loss=found[LOSS],
        iterations_per_epoch=(points[-1].iteration + 1) / points[-1].epoch if points else None,
    )


def curves_or_reason(metrics_file: Path) -> tuple[Curves, tuple[str, ...]]:
    """The curves, or a sentence why there are none."""
    try:
        curves = read_training_curves(metrics_file)
    except FileNotFoundError:
        return Curves(), (f"There are no training curves: {metrics_file} does not exist.",)
    except (InputError, OSError) as error:
        return Curves(), (f"There are no training curves: {error}",)
    reasons = []
    if not curves.loss:
        reasons.append(f"There is no curve of the loss: {metrics_file} has no {LOSS} yet.")
    if not curves.numbers:
        reasons.append(
            f"There is no curve of AP: the training was not evaluated on the way, {metrics_file} has no AP."
        )
    return curves, tuple(reasons)


def training_facts(curves: Curves) -> tuple[tuple[str, str], ...]:
    """How long a training was, as facts of a run."""
    points = [*curves.loss, *(p for points in curves.numbers.values() for p in points)]
    if not points:
        return ()
    done = max(point.iteration for point in points) + 1
    per_epoch = curves.iterations_per_epoch
    epochs = f" ({done / per_epoch:.3g} epochs)" if per_epoch else ""
    return (("trained", f"{done} iterations{epochs}"),)


def outcome_of(evaluator: object) -> CocoOutcome | None:
    """What a COCO evaluator, or the first of several evaluators that is one, found last."""
    members = evaluator._evaluators if isinstance(evaluator, DatasetEvaluators) else [evaluator]
    coco = (member for member in members if isinstance(member, CocoEvaluator))
    return next((member.outcome for member in coco if member.outcome is not None), None)


def describe(outcome: CocoOutcome) -> str:
    """Such as "digits_val: 500 images, 1260 objects of 10 classes"."""
    objects = outcome.objects()
    counts = (
        (len(outcome.image_numbers), "image", "images"),
        (int((~objects.ignored).sum()), "object", "objects"),
        (len(outcome.class_names), "class", "classes"),
    )
    images, things, classes = (f"{n} {one if n == 1 else many}" for n, one, many in counts)
    return f"{outcome.dataset_name}: {images}, {things} of {classes}"
