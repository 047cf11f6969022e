"""What becomes of a checkpoint's tensors in a model, whatever either is."""

import dataclasses
import logging
from collections.abc import Mapping

from torch import Tensor

from smca.text import clip, printable

from .class_rows import NamedClasses, carry_class_rows, resize_rows

logger = logging.getLogger(__name__)

_SOURCE = "decoder.query_embedding."
_RESIZED = (
    f"{_SOURCE}weight", f"{_SOURCE}position.weight", f"{_SOURCE}content.weight",
    # An encoder's classifier: its first row counts, whatever the number of classes.
    f"{_SOURCE}proposals.objectness.weight", f"{_SOURCE}proposals.objectness.bias",
)  # fmt: skip
"""Tensors of which the first rows are loaded where there are more or fewer."""
_BY_NAME = ": rows by class name"
# Left in or out of a checkpoint without effect on predictions.
_HARMLESS = ("num_batches_tracked", *(f"anchor_generator.cell_anchors.{i}" for i in range(9)))


@dataclasses.dataclass(frozen=True)
class LoadReport:
    """What became of a checkpoint's tensors in a model.

    Attributes:
        source: of the weights, for people.
        total: number of the model's tensors.
        loaded: names of tensors taken as they are.
        resized: of tensors of which some rows were taken, and which.
        classes: names on both sides, if the classifier's rows were carried over by name.
        misshapen: tensors skipped for their shape, with both shapes.
        unknown: tensors that the model does not have.
        missing: tensors of the model that the checkpoint does not have.
        moving_averages: whether they took the place of the weights.
    """

    source: str
    total: int
    loaded: list[str]
    resized: list[str]
    classes: NamedClasses | None
    misshapen: list[str]
    unknown: list[str]
    missing: list[str]
    moving_averages: bool = False

    def misfit(self, most_names: int = 2) -> str | None:
        """What keeps the model from being the checkpoint's, as an evaluation or a prediction needs it; None if nothing.

        Counters and anchors, which predictions do not depend on, may be missing or left over. Of each kind of tensors
        up to ``most_names`` are named.
        """
        new = [] if self.classes is None else self.classes.new
        carried = {name for name in self.resized if name.endswith(_BY_NAME)}
        problems = {
            "tensors missing in it": [n for n in self.missing if not n.endswith(_HARMLESS)],
            "tensors of another shape": self.misshapen,
            "tensors of another number of rows": [n for n in self.resized if n not in carried],
            "tensors that the model does not have": [
                n for n in self.unknown if not n.endswith(_HARMLESS)
            ],
            "classes that it does not know": new,
        }
        found = [
            f"{len(names)} {what} ({shorten(names, most_names)})"
            for what, names in problems.items()
            if names
        ]
        return "; ".join(found) or None

    def log(self) -> None:
        logger.info(
            "Loaded %d of the model's %d tensors from %s%s.",
            len(self.loaded), self.total, self.source,
            " (the moving averages of its training)" if self.moving_averages else "",
        )  # fmt: skip
        if self.classes is not None and not self.classes.same:
            carried, new = self.classes.carried, self.classes.new
            logger.log(
                logging.INFO if carried else logging.WARNING,
                "%d of %d classes carried over by name: %s; new, left as initialised: %s",
                len(carried), len(carried) + len(new), shorten(carried) or "-", shorten(new) or "-",
            )  # fmt: skip
        if self.resized:
            logger.info("%d tensors resized: %s", len(self.resized), shorten(self.resized))
        for what, names in (
            ("skipped for their shape", self.misshapen),
            ("skipped because the model has no such tensor", self.unknown),
            ("not in the checkpoint, left as initialised", self.missing),
        ):
            if names:
                logger.warning("%d tensors %s: %s", len(names), what, shorten(names))


def shorten(names: list[str], limit: int = 12) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(clip(printable(name), 150) for name in names[:limit]) + more


def fit(
    own: Mapping[str, Tensor],
    given: Mapping[str, Tensor],
    *,
    source: str = "",
    classes: NamedClasses | None = None,
    moving_averages: bool = False,
) -> tuple[dict[str, Tensor], LoadReport]:
    """Compare a checkpoint's tensors with a model's.

    Args:
        own: state dict of the model, which may be on the meta device.
        given: tensors by the model's names.
        source: where they come from, for people.
        classes: names of the classes on both sides, by which rows of the classifier are carried over.
        moving_averages: whether the tensors are.

    Returns:
        The tensors to load into the model, and what became of them all.
    """
    whole = {
        k: v
        for k, v in given.items()
        if k in own and own[k].shape == v.shape and not _is_of_another_kind(own[k], v)
    }
    partial, resized = {}, []
    if classes is not None:
        carried = carry_class_rows(own, given, classes)
        partial = {k: v for k, v in carried.items() if not (classes.same and k in whole)}
        resized = [f"{name}{_BY_NAME}" for name in sorted(partial)]
        classes = classes if carried else None
    for name in _RESIZED:
        if name in whole or name not in own or name not in given:
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
        moving_averages=moving_averages,
    )
    return fitting, outcome


def _is_of_another_kind(own: Tensor, given: Tensor) -> bool:
    """Whether one holds fractions and the other whole numbers, as a weight and a counter do."""
    return own.is_floating_point() != given.is_floating_point()


def _described(tensor: Tensor) -> str:
    """Its shape, with the type of its values where that is unusual."""
    return f"{tuple(tensor.shape)}" + ("" if tensor.is_floating_point() else f" {tensor.dtype}")
