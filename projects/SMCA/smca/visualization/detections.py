"""Predictions beside ground truth, drawn with Detectron2's Visualizer."""

import colorsys
import math
from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from detectron2.data.catalog import Metadata
from detectron2.structures import BoxMode, Instances
from detectron2.utils.visualizer import Visualizer

_CAPTION_HEIGHT = 30
_CAPTION_COLOR = 26
_GAP = 8
_FONT_SIZE = 11


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
    true_boxes = [BoxMode.convert(a["bbox"], a["bbox_mode"], BoxMode.XYXY_ABS) for a in annotations]
    true_classes = [a["category_id"] for a in annotations]
    names = [_class_name(c, metadata) for c in true_classes]
    left = _draw_panel(
        image, true_boxes, true_classes, names, metadata, min_side,
        caption=f"ground truth: {_count(names)}",
    )  # fmt: skip
    classes = predictions.pred_classes.tolist()
    names = [
        f"{_class_name(c, metadata)}  {score:.2f}"
        for c, score in zip(classes, predictions.scores.tolist(), strict=True)
    ]
    right = _draw_panel(
        image, predictions.pred_boxes.tensor.tolist(), classes, names, metadata, min_side,
        caption=f"predictions, score at least {score_threshold:g}: {_count(names)}",
    )  # fmt: skip
    gap = np.full((left.shape[0], _GAP, 3), 255, dtype=np.uint8)
    return np.hstack([left, gap, right])


def _draw_panel(
    image: np.ndarray,
    boxes: Sequence[Sequence[float]],
    classes: Sequence[int],
    labels: Sequence[str],
    metadata: Metadata,
    min_side: int,
    *,
    caption: str,
) -> np.ndarray:
    """The enlarged image with boxes, their labels outside of them, and a caption on top."""
    scale = max(1.0, min_side / max(image.shape[:2]))
    enlarged = cv2.resize(
        np.ascontiguousarray(image, dtype=np.uint8),
        None,
        fx=scale,
        fy=scale,
        interpolation=cv2.INTER_CUBIC,
    )
    bar = np.full((_CAPTION_HEIGHT, enlarged.shape[1], 3), _CAPTION_COLOR, dtype=np.uint8)
    visualizer = Visualizer(np.vstack([bar, enlarged]), metadata)
    height, width = enlarged.shape[:2]
    limits = np.array([width - 1, height - 1] * 2)
    # Points to pixels; 1.4 leaves room for the padding that Visualizer gives to a text.
    font_pixels = _FONT_SIZE * visualizer.output.fig.dpi / 72
    text_height = math.ceil(1.4 * font_pixels)
    for box, class_id, label in zip(boxes, classes, labels, strict=True):
        x0, y0, x1, y1 = (np.asarray(box) * scale).clip(0, limits)
        color = _class_color(class_id, metadata)
        corners = (x0, y0 + _CAPTION_HEIGHT, x1, y1 + _CAPTION_HEIGHT)
        visualizer.draw_box(corners, alpha=0.9, edge_color=color)
        is_room_above = y0 >= text_height
        # Letters of a sans-serif font are about 0.62 of its size wide.
        left = max(0, min(x0, width - 0.62 * font_pixels * len(label)))
        visualizer.draw_text(
            label,
            (left, corners[1] - text_height if is_room_above else corners[3] + 3),
            font_size=_FONT_SIZE,
            color=color,
            horizontal_alignment="left",
        )
    visualizer.draw_text(
        caption, (8, 6), font_size=_FONT_SIZE, color="w", horizontal_alignment="left"
    )
    return visualizer.output.get_image()


def _count(items: Sequence) -> str:
    return "none" if not items else str(len(items))


def _class_name(class_id: int, metadata: Metadata) -> str:
    names = metadata.get("thing_classes") or []
    return names[class_id] if class_id < len(names) else str(class_id)


def _class_color(class_id: int, metadata: Metadata) -> tuple[float, float, float]:
    """The data set's own colour, or one far from its neighbours'."""
    colors = metadata.get("thing_colors")
    if colors:
        return tuple(channel / 255 for channel in colors[class_id])
    golden_ratio = (math.sqrt(5) - 1) / 2
    return colorsys.hsv_to_rgb(class_id * golden_ratio % 1.0, 0.65, 1.0)
