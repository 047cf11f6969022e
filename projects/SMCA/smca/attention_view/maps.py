"""From maps of cells to the image: what all heads and scales see together, and how much of it is in a box."""

from collections.abc import Sequence

import numpy as np

from smca.visualization.heat import spread_heat

from .views import LayerView, QueryView


def image_heat(
    view: QueryView,
    maps: Sequence[np.ndarray],
    weights: np.ndarray | None,
    size: tuple[int, int],
    *,
    head: int | None = None,
    level: int | None = None,
) -> np.ndarray:
    """Maps of cells, linearly in between, at the pixels of a picture of the whole image.

    Args:
        view: that the maps are of.
        maps: S maps (H, h, w).
        weights: (S,) of the levels; None weighs them equally.
        size: (width, height) of the picture.
        head: one of them; by default their mean.
        level: one of them; by default their sum with its weights, each by its density per pixel.

    Returns:
        (height, width).
    """
    height, width = view.size
    scale = np.array([size[0] / width, size[1] / height])
    total = np.zeros(size[::-1], np.float32)
    for s in range(len(maps)) if level is None else (level,):
        cells = maps[s].mean(0) if head is None else maps[s][head % len(maps[s])]
        share = 1.0 if level is not None or weights is None else float(weights[s])
        stride = tuple(scale * view.strides[s])
        heat = spread_heat(cells, size, stride=stride, origin=view.cell_origin)
        total += share / view.strides[s] ** 2 * heat
    return total


def prior_heat(
    view: QueryView,
    layer: LayerView,
    size: tuple[int, int],
    *,
    head: int | None = None,
    level: int | None = None,
) -> np.ndarray:
    """The prior at the pixels of a picture of the whole image.

    A Gaussian is computed at each pixel, another prior is taken between cells; options are those of
    :func:`image_heat`.
    """
    if layer.centers is None:
        return image_heat(view, layer.priors, layer.level_weights, size, head=head, level=level)
    height, width = view.size
    x = (np.arange(size[0]) + 0.5) * width / size[0]
    y = (np.arange(size[1]) + 0.5) * height / size[1]
    total = np.zeros(size[::-1])
    for s in range(len(layer.centers)) if level is None else (level,):
        count = len(layer.centers[s])
        share = 1.0 if level is not None or layer.level_weights is None else layer.level_weights[s]
        for h in range(count) if head is None else (head % count,):
            center, half = layer.centers[s, h], layer.half_axes[s, h]
            column = np.exp2(-(((x - center[0]) / half[0]) ** 2))
            row = np.exp2(-(((y - center[1]) / half[1]) ** 2))
            total += share * row[:, None] * column
    return total


def shares_in_box(view: QueryView, maps: Sequence[np.ndarray], box: Sequence[float]) -> np.ndarray:
    """(S, H) how much of each map lies in a box (xyxy in pixels), a cell counting by how much of it does."""
    shares = []
    for cells, stride in zip(maps, view.strides, strict=True):
        h, w = cells.shape[1:]
        across = _covered(w, stride, view.cell_origin, box[0], box[2])
        down = _covered(h, stride, view.cell_origin, box[1], box[3])
        shares.append(np.einsum("hyx,y,x->h", cells, down, across))
    return np.stack(shares)


def share_of_points(layer: LayerView, box: Sequence[float]) -> np.ndarray:
    """(S, H) how much of a head's weights is at sampling points in a box; over all levels they sum to at most 1."""
    x, y = layer.points[..., 0], layer.points[..., 1]
    inside = (box[0] <= x) & (x <= box[2]) & (box[1] <= y) & (y <= box[3])
    return (layer.point_weights * inside).sum(-1).T


def attention_in_box(view: QueryView, layer: LayerView, *, modulated: bool = True) -> float | None:
    """How much of what a query sees in a layer, over heads and levels, lies in the box that it ends in."""
    if layer.points is not None:
        return float(share_of_points(layer, view.box).sum(0).mean())
    maps = layer.after if modulated else layer.before
    if maps is None:
        return None
    shares = shares_in_box(view, maps, view.box).mean(1)
    weights = layer.level_weights
    return float(shares.mean() if weights is None else shares @ weights)


def _covered(count: int, stride: int, origin: float, low: float, high: float) -> np.ndarray:
    """(count,) how much of each cell of an axis lies between two pixels."""
    starts = (np.arange(count) + origin - 0.5) * stride
    return ((np.minimum(starts + stride, high) - np.maximum(starts, low)) / stride).clip(0, 1)
