"""Over many images: how far centres are from boxes, how wide priors are, which scales objects of a size select."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from smca.inference.predictor import Predictor
from smca.inference.prepared_image import ImageLike

from .maps import attention_in_box
from .objects import best_detections
from .recording import record
from .views import LayerView, QueryView, view_queries

_SIZE_GROUPS = 4


@dataclass(frozen=True)
class LookedAt:
    """One detection. Sides are in pixels of the image, sqrt(width * height).

    Attributes:
        box_side: of the box that the query ends in.
        box_share: of the image, which is how much lies in the box of attention that is spread evenly.
        prior_side: of the last layer's prior where it has fallen to a half, median of the heads on the scale that
            weighs most; None without a Gaussian prior.
        centers: per layer (distance of the prior's centre from the middle of the final box in shares of the box's
            diagonal, whether it lies in the box), None without one.
        attention: per layer how much lies in the final box (before, after modulation), each None where not known.
        strides: S pixels per cell.
        level_weights: (S,) of the last layer; None where all weigh the same.
    """

    box_side: float
    box_share: float
    prior_side: float | None
    centers: list[tuple[float, bool] | None]
    attention: list[tuple[float | None, float | None]]
    strides: tuple[int, ...]
    level_weights: np.ndarray | None


def look_at_images(
    predictor: Predictor, images: Iterable[ImageLike], *, threshold: float
) -> list[LookedAt]:
    """Every detection of a score in every image; of those that overlap by half only the best one.

    Raises:
        InputError: if an image cannot be read, or the model has no queries.
    """
    found = []
    for image in images:
        run = record(predictor, image)
        # The best one is always among them, whatever its score.
        chosen = [
            k for k in best_detections(run, threshold=threshold) if run.scores[k] >= threshold
        ]
        pixels_per_pixel = image.shape[1] / run.size[1]
        views = view_queries(run, run.queries[chosen].tolist()) if chosen else []
        found += [looked_at(view, pixels_per_pixel) for view in views]
    return found


def looked_at(view: QueryView, pixels_per_pixel: float = 1.0) -> LookedAt:
    """The figures of one query.

    Args:
        view: of it.
        pixels_per_pixel: pixels of the image for one of the model's input.
    """
    last = view.layers[-1]
    return LookedAt(
        box_side=_side(view.box) * pixels_per_pixel,
        box_share=_share_of_image(view),
        prior_side=None if last.half_axes is None else _prior_side(last) * pixels_per_pixel,
        centers=[_center(layer, view.box) for layer in view.layers],
        attention=[
            (
                None if layer.priors is None else attention_in_box(view, layer, modulated=False),
                attention_in_box(view, layer),
            )
            for layer in view.layers
        ],
        strides=view.strides,
        level_weights=last.level_weights,
    )


def summarize(models: Sequence[tuple[str, Sequence[LookedAt]]]) -> list[dict[str, Any]]:
    """Figures of models as JSON has them; None where a model has no such part.

    Args:
        models: M names and detections.

    Returns:
        M of "model", "detections", "box_share" (mean of the boxes' shares of their images), "layers" (per layer
        "center_distance", the median in shares of the box's diagonal, "center_in_box", "attention_before" and
        "attention_after", means of shares), "prior" ("median_ratio" of its side to the box's, rank "correlation",
        "sides" as pairs (box, prior)) and "scales" ("strides", and per group of objects of a size, a quarter of all
        models' detections each, "from", "to", "detections" and mean "weights").
    """
    sides = np.array([one.box_side for _, found in models for one in found])
    edges = np.quantile(sides, np.linspace(0, 1, _SIZE_GROUPS + 1)) if len(sides) else None
    return [
        {
            "model": name,
            "detections": len(found),
            "box_share": _rounded(np.mean, [one.box_share for one in found]),
            "layers": _layers(found),
            "prior": _prior_sizes(found),
            "scales": _scales(found, edges),
        }
        for name, found in models
    ]


def _layers(found: Sequence[LookedAt]) -> list[dict[str, float | None]]:
    rows = []
    for index in range(len(found[0].attention) if found else 0):
        centers = [one.centers[index] for one in found if one.centers[index] is not None]
        before, after = (
            [one.attention[index][k] for one in found if one.attention[index][k] is not None]
            for k in (0, 1)
        )
        rows.append(
            {
                "center_distance": _rounded(np.median, [distance for distance, _ in centers]),
                "center_in_box": _rounded(np.mean, [inside for _, inside in centers]),
                "attention_before": _rounded(np.mean, before),
                "attention_after": _rounded(np.mean, after),
            }
        )
    return rows


def _prior_sizes(found: Sequence[LookedAt]) -> dict[str, Any] | None:
    pairs = [(one.box_side, one.prior_side) for one in found if one.prior_side is not None]
    if not pairs:
        return None
    box, prior = np.array(pairs).T
    is_constant = np.ptp(box) == 0 or np.ptp(prior) == 0
    return {
        "median_ratio": _rounded(np.median, prior / box),
        "correlation": None if is_constant else round(float(spearmanr(box, prior).statistic), 3),
        "sides": np.array(pairs).round(1).tolist(),
    }


def _scales(found: Sequence[LookedAt], edges: np.ndarray | None) -> dict[str, Any] | None:
    weighed = [one for one in found if one.level_weights is not None and len(one.strides) > 1]
    if not weighed:
        return None
    groups = np.searchsorted(edges[1:-1], [one.box_side for one in weighed], side="right")
    rows = []
    for group in range(_SIZE_GROUPS):
        weights = [
            one.level_weights for one, own in zip(weighed, groups, strict=True) if own == group
        ]
        rows.append(
            {
                "from": round(float(edges[group]), 1),
                "to": round(float(edges[group + 1]), 1),
                "detections": len(weights),
                "weights": np.mean(weights, 0).astype(float).round(4).tolist() if weights else None,
            }
        )
    return {"strides": list(weighed[0].strides), "groups": rows}


def _center(layer: LayerView, box: np.ndarray) -> tuple[float, bool] | None:
    if layer.center is None:
        return None
    middle, diagonal = (box[:2] + box[2:]) / 2, np.hypot(*(box[2:] - box[:2]))
    is_inside = bool((box[:2] <= layer.center).all() and (layer.center <= box[2:]).all())
    return float(np.hypot(*(layer.center - middle)) / max(diagonal, 1e-6)), is_inside


def _prior_side(layer: LayerView) -> float:
    weights = layer.level_weights
    level = 0 if weights is None else int(weights.argmax())
    # A prior that never falls to a half in a direction covers everything there.
    return float(np.median(2 * np.sqrt(layer.half_axes[level].clip(max=1e4).prod(-1))))


def _side(box: np.ndarray) -> float:
    return float(np.sqrt((box[2:] - box[:2]).clip(min=0).prod()))


def _share_of_image(view: QueryView) -> float:
    height, width = view.size
    low, high = view.box.reshape(2, 2).clip(0, (width, height))
    return float((high - low).clip(min=0).prod() / (width * height))


def _rounded(of, values) -> float | None:
    return round(float(of(values)), 4) if len(values) else None
