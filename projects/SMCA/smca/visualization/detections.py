"""Detections on their image, and beside ground truth."""

from collections.abc import Mapping, Sequence

import numpy as np
from detectron2.data.catalog import Metadata
from detectron2.structures import BoxMode, Instances

from .boxes import Color, caption_bar, class_color, paint_boxes
from .fonts import class_label

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
    image = image.astype(np.uint8)
    scale = max(1.0, min_side / max(image.shape[:2]))
    names, colors = metadata.get("thing_classes") or (), metadata.get("thing_colors") or ()
    classes = [a["category_id"] for a in annotations]
    truth = paint_boxes(
        image,
        [BoxMode.convert(a["bbox"], a["bbox_mode"], BoxMode.XYXY_ABS) for a in annotations],
        [class_label(k, names) for k in classes],
        [class_color(k, colors) for k in classes],
        scale=scale,
    )
    predictions = predictions[predictions.scores >= score_threshold].to("cpu")
    found = paint_detections(image, predictions, names, colors, scale=scale)
    captions = (
        f"ground truth: {len(classes) or 'none'}",
        f"predictions, score at least {score_threshold:g}: {len(predictions) or 'none'}",
    )
    left, right = (
        np.vstack([caption_bar(caption, panel.shape[1], _CAPTION_HEIGHT), panel])
        for caption, panel in zip(captions, (truth, found), strict=True)
    )
    gap = np.full((left.shape[0], _GAP, 3), 255, dtype=np.uint8)
    return np.hstack([left, gap, right])


def paint_detections(
    image: np.ndarray,
    found: Instances,
    class_names: Sequence[str] = (),
    class_colors: Sequence[Color] = (),
    *,
    scale: float = 1.0,
) -> np.ndarray:
    """Draw detections with their classes and scores, the best on top.

    Args:
        image, scale: as for :func:`~smca.visualization.boxes.paint_boxes`, as is what is returned.
        found: with ``pred_boxes`` in pixels of ``image``, ``scores`` and ``pred_classes``.
        class_names, class_colors: of classes 0 .. K-1; numbers and bright colours where they are empty.
    """
    found = found[found.scores.argsort()]
    classes, scores = found.pred_classes.tolist(), found.scores.tolist()
    return paint_boxes(
        image,
        found.pred_boxes.tensor.tolist(),
        [f"{class_label(k, class_names)} {s:.2f}" for k, s in zip(classes, scores, strict=True)],
        [class_color(k, class_colors) for k in classes],
        scale=scale,
    )
