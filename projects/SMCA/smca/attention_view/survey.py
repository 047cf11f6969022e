"""Priors and attention of a model's detections over many images, as numbers."""

import itertools
from collections.abc import Iterable
from typing import Any

import numpy as np

from smca.inference.predictor import ImageLike, Predictor

from .maps import attention_in_box
from .objects import best_detections
from .recording import record
from .views import QueryView, view_queries

_SIDES = (0, 16, 32, 64, 128, 256, np.inf)
"""Ends of the bins of object sizes: the root of the box's area in pixels of the model's input."""


def survey(
    predictor: Predictor, images: Iterable[ImageLike], *, threshold: float = 0.3
) -> dict[str, Any]:
    """How priors lie to the boxes that queries end in, per layer, and which scale counts for which size.

    Args:
        predictor: of a model of this project.
        images: as the predictor takes them.
        threshold: lowest score of a detection.

    Returns:
        "detections", and "layers" with medians over detections: "center_distance" from the mean of the heads' centres
        to the box's centre in roots of its area, "prior_to_box" the mean full width of the ellipses to the same root,
        "in_box" the share of the attention in the box; and "scales", the mean weights of the levels in the last layer
        by object size. What a model does not have is None.

    Raises:
        InputError: as :func:`~smca.attention_view.record`.
    """
    views: list[QueryView] = []
    for image in images:
        run = record(predictor, image)
        chosen = [
            k for k in best_detections(run, threshold=threshold) if run.scores[k] >= threshold
        ]
        if chosen:
            views += view_queries(run, run.queries[chosen].tolist())
    sides = np.array([_side(view) for view in views])
    layers = []
    for index in range(len(views[0].layers) if views else 0):
        rows = [_figures(view, index) for view in views]
        layers.append({name: _median([row[name] for row in rows]) for name in rows[0]})
    return {"detections": len(views), "layers": layers, "scales": _scales(views, sides)}


def _side(view: QueryView) -> float:
    x0, y0, x1, y1 = view.box
    return float(np.sqrt(max((x1 - x0) * (y1 - y0), 1e-6)))


def _figures(view: QueryView, index: int) -> dict[str, float | None]:
    layer, side = view.layers[index], _side(view)
    figures = {"center_distance": None, "prior_to_box": None}
    if layer.centers is not None:
        weights = layer.level_weights
        best = 0 if weights is None else int(weights.argmax())
        middle = view.box.reshape(2, 2).mean(0)
        figures["center_distance"] = float(
            np.linalg.norm(layer.centers[best].mean(0) - middle) / side
        )
        figures["prior_to_box"] = float(2 * np.median(layer.half_axes[best]) / side)
    return {**figures, "in_box": attention_in_box(view, layer)}


def _median(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(float(np.median(known)), 4) if known else None


def _scales(views: list[QueryView], sides: np.ndarray) -> list[dict[str, Any]] | None:
    if not views or any(view.layers[-1].level_weights is None for view in views):
        return None
    weights = np.stack([view.layers[-1].level_weights for view in views])
    found = []
    for low, high in itertools.pairwise(_SIDES):
        inside = (low <= sides) & (sides < high)
        if inside.any():
            means = dict(
                zip(
                    map(str, views[0].strides),
                    weights[inside].mean(0).round(4).tolist(),
                    strict=True,
                )
            )
            found.append({"side_from": low, "objects": int(inside.sum()), "weights": means})
    return found
