"""The same objects as several models see them."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.ops import box_iou, nms

from smca.errors import InputError
from smca.inference.predictor import Predictor
from smca.inference.prepared_image import ImageLike

from .recording import NetworkRun, record
from .views import QueryView, view_queries

_SAME_OBJECT = 0.5
"""IoU from which two boxes are of one object."""


@dataclass(frozen=True)
class Seen:
    """One object as one model sees it.

    Attributes:
        view: of the query that detects it.
        score: in [0, 1].
        class_id: contiguous class.
        overlap: IoU with the first model's box; 1 for that one itself.
    """

    view: QueryView
    score: float
    class_id: int
    overlap: float

    @property
    def is_found(self) -> bool:
        """Whether it is the same object, and not only the nearest one that the model has."""
        return self.overlap >= _SAME_OBJECT


def look_at_image(
    predictors: Sequence[Predictor],
    image: ImageLike,
    *,
    count: int = 4,
    threshold: float = 0.0,
    points: Sequence[tuple[float, float]] = (),
) -> list[list[Seen]]:
    """The best detections of the first model, and each as the others see it.

    Args:
        predictors: M models.
        image: as a predictor takes it.
        count: most objects. Of detections that overlap by half only the best one counts.
        threshold: lowest score; but the best detection is always taken.
        points: (x, y) in [0, 1] of the image: instead, the best detection whose box holds each.

    Returns:
        Per object M views. Of another model it is the best detection whose box overlaps the first one's by half, or,
        where it has none, the one that overlaps most.

    Raises:
        InputError: if the image cannot be read, a model is of another kind, or no box holds a point.
    """
    runs = [record(predictor, image) for predictor in predictors]
    first = runs[0]
    detections = [_nearest_point(first, point) for point in points] or best_detections(
        first, count=count, threshold=threshold
    )
    boxes = _relative(first)[detections]
    found = []
    for number, run in enumerate(runs):
        chosen = detections if number == 0 else [_same(run, box) for box in boxes]
        views = view_queries(run, run.queries[chosen].tolist())
        overlaps = box_iou(boxes, _relative(run)[chosen].to(boxes)).diagonal().tolist()
        found.append(
            [
                Seen(view, run.scores[k].item(), run.classes[k].item(), overlap)
                for view, k, overlap in zip(views, chosen, overlaps, strict=True)
            ]
        )
    return [list(models) for models in zip(*found, strict=True)]


def best_detections(run: NetworkRun, *, count: int | None = None, threshold: float) -> list[int]:
    """Numbers of the best detections of different objects, and always of the best one."""
    kept = nms(run.boxes[-1, run.queries], run.scores.float(), iou_threshold=_SAME_OBJECT)[:count]
    return kept[: max(1, int((run.scores[kept] >= threshold).sum()))].tolist()


def _relative(run: NetworkRun) -> Tensor:
    """(D, 4) boxes of the detections in [0, 1] of the image."""
    height, width = run.size
    boxes = run.boxes[-1, run.queries]
    return boxes / boxes.new_tensor([width, height, width, height])


def _nearest_point(run: NetworkRun, point: tuple[float, float]) -> int:
    x, y = point
    x0, y0, x1, y1 = _relative(run).unbind(-1)
    holding = ((x0 <= x) & (x <= x1) & (y0 <= y) & (y <= y1)).nonzero().flatten()
    if not len(holding):
        raise InputError(f"no detection's box holds the point {point}, in shares of the image")
    return int(holding[0])


def _same(run: NetworkRun, box: Tensor) -> int:
    """The detection of a model that is of a box in [0, 1] of the image; the first one is the best."""
    overlaps = box_iou(box[None], _relative(run).to(box))[0]
    same = (overlaps >= _SAME_OBJECT).nonzero().flatten()
    return int(same[0]) if len(same) else int(torch.argmax(overlaps))
