"""Predictions beside ground truth."""

from collections.abc import Mapping, Sequence

import numpy as np
from detectron2.data.catalog import Metadata
from detectron2.structures import BoxMode, Instances

from .boxes import Color, caption_bar, class_color, paint_boxes

_CAPTION_HEIGHT = 30
_GAP = 8


def draw_detections(
    image: np.ndarray,
    predictions: Instances,
    annotations: Sequence[Mapping],
    metadata: Metadata,
    *,
    score_threshold: float = 0.3,
    min_side: int = 448,
) -> np.ndarray:
    """Ground truth on the left, predictions on the right.

    Args:
        image: (height, width, 3) RGB, 0..255.
        predictions: with ``pred_boxes`` in pixels of ``image``, ``scores`` and ``pred_classes``.
        annotations: the image's objects, as in Detectron2's dataset dicts.
        metadata: of the data set; its ``thing_classes`` and ``thing_colors`` are used if present.
        score_threshold: predictions below it are left out.
        min_side: an image whose longer side has fewer pixels is enlarged to that, so that labels
            are readable.

    Returns:
        (height', width', 3) RGB uint8.
    """
    predictions = predictions[predictions.scores >= score_threshold].to("cpu")
    # The best on top.
    predictions = predictions[predictions.scores.argsort()]
    scale = max(1.0, min_side / max(image.shape[:2]))

    def panel(boxes: list, classes: list[int], scores: list[float] | None, caption: str):
        names = [_class_name(c, metadata) for c in classes]
        labels = (
            names
            if scores is None
            else [f"{n} {s:.2f}" for n, s in zip(names, scores, strict=True)]
        )
        colors = [_class_color(c, metadata) for c in classes]
        picture = paint_boxes(image.astype(np.uint8), boxes, labels, colors, scale=scale)
        bar = caption_bar(f"{caption}: {len(boxes) or 'none'}", picture.shape[1], _CAPTION_HEIGHT)
        return np.vstack([bar, picture])

    left = panel(
        [BoxMode.convert(a["bbox"], a["bbox_mode"], BoxMode.XYXY_ABS) for a in annotations],
        [a["category_id"] for a in annotations],
        None,
        "ground truth",
    )
    right = panel(
        predictions.pred_boxes.tensor.tolist(),
        predictions.pred_classes.tolist(),
        predictions.scores.tolist(),
        f"predictions, score at least {score_threshold:g}",
    )
    gap = np.full((left.shape[0], _GAP, 3), 255, dtype=np.uint8)
    return np.hstack([left, gap, right])


def _class_name(class_id: int, metadata: Metadata) -> str:
    names = metadata.get("thing_classes") or []
    return names[class_id] if class_id < len(names) else str(class_id)


def _class_color(class_id: int, metadata: Metadata) -> Color:
    """The data set's own colour, or one far from its neighbours'."""
    colors = metadata.get("thing_colors")
    return tuple(colors[class_id]) if colors else class_color(class_id)
