import dataclasses
import logging

from smca.text import clip, printable

from .class_rows import NamedClasses

logger = logging.getLogger("smca.checkpoint.loading.initial_weights")

BY_NAME = ": rows by class name"
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

    def misfit(self) -> str | None:
        """What keeps the model from being the checkpoint's, as an evaluation or a prediction needs it; None if nothing.

        Counters and anchors, which predictions do not depend on, may be missing or left over.
        """
        new = [] if self.classes is None else self.classes.new
        carried = {name for name in self.resized if name.endswith(BY_NAME)}
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
            f"{len(names)} {what} ({shorten(names, 2)})"
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
