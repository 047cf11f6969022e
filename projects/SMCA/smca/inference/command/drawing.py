import math
from collections.abc import Sequence

import numpy as np
from detectron2.structures import Instances

from smca.visualization.boxes import class_color, paint_boxes

from .results_file import class_name

_READABLE_SIDE = 400
_LARGEST_FACTOR = 8


def draw_boxes(
    image: np.ndarray, found: Instances, class_names: Sequence[str] = (), *, enlarge: bool = False
) -> np.ndarray:
    """Draw detections, the best on top.

    Args:
        image: (height, width, 3) BGR uint8; it is left as it is.
        found: with ``pred_boxes`` in pixels of ``image``, ``scores`` and ``pred_classes``.
        class_names: of classes 0 .. K-1.
        enlarge: make an image whose longer side has less than 400 pixels a whole number of times (at most 8) as large,
            so that labels are readable and hide little.

    Returns:
        (height', width', 3) BGR uint8.
    """
    found = found[found.scores.argsort()]
    classes = found.pred_classes.tolist()
    labels = [
        f"{class_name(class_id, class_names)} {score:.2f}"
        for class_id, score in zip(classes, found.scores.tolist(), strict=True)
    ]
    factor = min(_LARGEST_FACTOR, math.ceil(_READABLE_SIDE / max(image.shape[:2])))
    drawn = paint_boxes(
        image[:, :, ::-1],
        found.pred_boxes.tensor.tolist(),
        labels,
        [class_color(class_id) for class_id in classes],
        scale=factor if enlarge else 1,
    )
    return np.ascontiguousarray(drawn[:, :, ::-1])
