"""Rows of a classifier carried over from one list of classes to another, by name."""

import dataclasses
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

# Where there are rows for each class, and how many: our heads, and the box predictor of Detectron2's R-CNN.
_ROWS_PER_CLASS = {
    "heads.classifier.": 1,
    "roi_heads.box_predictor.cls_score.": 1,
    "roi_heads.box_predictor.bbox_pred.": 4,
}
# Of sources of queries, wherever in them: denoised labels, the encoder's proposals.
_QUERIES = "decoder.query_embedding."
_QUERY_ROWS = ("label", "classifier")


@dataclasses.dataclass(frozen=True)
class NamedClasses:
    """Which classes of a model find their rows in a checkpoint.

    Attributes:
        source, target: names of the checkpoint's classes and of the model's, in order.
    """

    source: tuple[str, ...]
    target: tuple[str, ...]

    @property
    def carried(self) -> list[str]:
        return [name for name, row in zip(self.target, self.rows(), strict=True) if row is not None]

    @property
    def new(self) -> list[str]:
        return [name for name, row in zip(self.target, self.rows(), strict=True) if row is None]

    @property
    def same(self) -> bool:
        """Whether every class stands where it stood."""
        return self.rows() == list(range(len(self.source)))

    def rows(self) -> list[int | None]:
        """For each class of the model the checkpoint's; upper and lower case and blanks around a name are alike."""
        known: dict[str, int] = {}
        for row, name in enumerate(self.source):
            known.setdefault(_key(name), row)
        return [known.get(_key(name)) for name in self.target]


def carry_class_rows(
    own: Mapping[str, Tensor], weights: Mapping[str, Tensor], classes: NamedClasses
) -> dict[str, Tensor]:
    """The classifier's tensors in the model's order of classes.

    Args:
        own: the model's state dict, whose rows new classes keep.
        weights: the checkpoint's.
        classes: of both. A row after those of the classes ("no object", background) is carried over if both have it.

    Returns:
        The classifier's tensors by name; none of a tensor whose rows are not those of the classes.
    """
    carried = {}
    for name in own.keys() & weights.keys():
        step = _rows_per_class(name)
        if step is None or own[name].shape[1:] != weights[name].shape[1:]:
            continue
        old, new = weights[name], own[name].clone()
        last = [len(tensor) - step * len(names)
                for tensor, names in ((old, classes.source), (new, classes.target))]  # fmt: skip
        if not set(last) <= {0, 1}:
            continue
        for target, source in enumerate(classes.rows()):
            if source is not None:
                new[step * target : step * (target + 1)] = old[step * source : step * (source + 1)]
        if last == [1, 1]:
            new[-1] = old[-1]
        carried[name] = new
    return carried


def _rows_per_class(name: str) -> int | None:
    """None of a tensor that has none."""
    if name.startswith(_QUERIES) and name.split(".")[-2] in _QUERY_ROWS:
        return 1
    return next((n for prefix, n in _ROWS_PER_CLASS.items() if name.startswith(prefix)), None)


def resize_rows(own: Tensor, given: Tensor) -> Tensor:
    """The first rows of ``given`` (R, ...) in place of those of ``own`` (Q, ...), as many as there are of both."""
    count = min(len(own), len(given))
    return torch.cat([given[:count].to(own), own[count:]])


def known_classes(source: Sequence[str], target: Sequence[str]) -> NamedClasses | None:
    """None if either side does not know its names."""
    return NamedClasses(tuple(source), tuple(target)) if source and target else None


def _key(name: str) -> str:
    return name.strip().casefold()
