"""Pictures of one object: models below each other, or the heads of one model beside each other."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from smca.visualization.boxes import caption_bar, paint_boxes
from smca.visualization.heat import blend_heat, draw_cross, draw_dot, draw_ellipse

from .maps import attention_in_box, image_heat, prior_heat, share_of_points, shares_in_box
from .objects import Seen
from .views import LayerView, QueryView

_WHITE = (255, 255, 255)
_GAP = 6
_WIDE, _NARROW = 330, 210
_BAR, _TITLE = 26, 34
_LARGEST_POINT = 9
_LEAST_SHARE = 0.1
"""Of a scale whose ellipses are drawn beside those of other scales, which they would hide."""
_BLANK = 236
_MISSING = ("no prior", "nothing is modulated", "cannot be shown")
"""Instead of the prior, and of attention before and after modulation."""


def draw_models(
    image: Image.Image, seen: Sequence[Seen], names: Sequence[str], titles: Sequence[str]
) -> np.ndarray:
    """One object in the last layer: a row per model, over all heads and scales.

    Args:
        image: RGB, in any size.
        seen: the object as M models see it.
        names, titles: of the M models, and what each says of the object.

    Returns:
        (height, width, 3) uint8.
    """
    rows = []
    for one, name, title in zip(seen, names, titles, strict=True):
        layer = one.view.layers[-1]
        panels = [
            _prior_panel(image, one.view, layer, _WIDE),
            *_attention_panels(image, one.view, layer, _WIDE),
        ]
        if not any(map(_is_drawn, panels)):
            size = _size_of(one.view, _WIDE)
            panels[2] = _labelled(_drawn(image, one.view, layer, size, None), _MISSING[2])
        weights = _weights_text(one.view, layer)
        text = f"{name}: {title}{weights}"
        rows += [caption_bar(text, 3 * _WIDE + 2 * _GAP, _TITLE), _row(panels)]
    return np.vstack(rows)


def draw_heads(
    image: Image.Image, seen: Seen, name: str, *, layer_number: int | None = None
) -> np.ndarray:
    """One object in one layer of one model: a column per head, and per scale prior and attention.

    Args:
        image: RGB, in any size.
        seen: the object as the model sees it.
        name: of the model.
        layer_number: from 0; the last by default.

    Returns:
        (height, width, 3) uint8.
    """
    view = seen.view
    number = len(view.layers) - 1 if layer_number is None else layer_number
    layer = view.layers[number]
    heads = _heads(layer)
    rows = []
    for s, stride in enumerate(view.strides):
        options = {"level": s}
        weight = "" if layer.level_weights is None else f", weight {layer.level_weights[s]:.2f}"
        text = f"{name}, layer {number + 1}, scale of stride {stride}{weight}"
        rows.append(caption_bar(text, heads * (_NARROW + _GAP) - _GAP, _TITLE))
        columns = [
            [
                _prior_panel(image, view, layer, _NARROW, head=h, **options),
                *_attention_panels(image, view, layer, _NARROW, head=h, **options),
            ]
            for h in range(heads)
        ]
        rows += [
            _row(panels) for panels in zip(*columns, strict=True) if any(map(_is_drawn, panels))
        ]
    return np.vstack(rows)


def _heads(layer: LayerView) -> int:
    for maps in (layer.after, layer.priors):
        if maps is not None:
            return max(len(cells) for cells in maps)
    return 1 if layer.points is None else len(layer.points)


def _prior_panel(
    image: Image.Image, view: QueryView, layer: LayerView, width: int, **which: int
) -> np.ndarray | None:
    if layer.priors is None and layer.centers is None:
        return None
    size = _size_of(view, width)
    heat = prior_heat(view, layer, size, **which)
    return _labelled(_drawn(image, view, layer, size, heat, **which), _head_text("prior", which))


def _attention_panels(
    image: Image.Image, view: QueryView, layer: LayerView, width: int, **which: int
) -> list[np.ndarray | None]:
    """Before and after modulation; of sampling points, and without a prior, there is no before."""
    size = _size_of(view, width)
    if layer.points is not None:
        shares = _picked(share_of_points(layer, view.box), summed=True, **which)
        picture = _drawn(image, view, layer, size, None, points=True, **which)
        text = f"{_head_text('points', which)}, {shares:.0%} in box"
        return [None, _labelled(picture, text)]
    panels = []
    for name, maps in (("before", layer.before), ("after", layer.after)):
        if maps is None or (name == "before" and layer.priors is None):
            panels.append(None)
            continue
        heat = image_heat(view, maps, layer.level_weights, size, **which)
        if which:
            inside = _picked(shares_in_box(view, maps, view.box), **which)
        else:
            inside = attention_in_box(view, layer, modulated=name == "after")
        text = "attention" if layer.priors is None else name
        text = f"{_head_text(text, which)}, {inside:.0%} in box"
        panels.append(_labelled(_drawn(image, view, layer, size, heat, marks=False, **which), text))
    return panels


def _picked(
    shares: np.ndarray, *, level: int | None = None, head: int | None = None, summed: bool = False
) -> float:
    """Of (S, H); over all levels those of points are summed, since they share one softmax."""
    of_heads = shares.sum(0) if level is None and summed else shares.mean(0)
    of_heads = of_heads if level is None else shares[level]
    return float(of_heads.mean() if head is None else of_heads[head])


def _drawn(
    image: Image.Image,
    view: QueryView,
    layer: LayerView,
    size: tuple[int, int],
    heat: np.ndarray | None,
    *,
    head: int | None = None,
    level: int | None = None,
    marks: bool = True,
    points: bool = False,
) -> np.ndarray:
    """The image with heat, the box that the query ends in, and marks."""
    height, width = view.size
    scale = np.array([size[0] / width, size[1] / height])
    resized = image.resize(size, Image.Resampling.BICUBIC)
    picture = np.asarray(resized) if heat is None else blend_heat(resized, heat)
    box = view.box * np.tile(scale, 2)
    canvas = Image.fromarray(paint_boxes(picture, [box], [""], [_WHITE]))
    draw = ImageDraw.Draw(canvas)
    levels = range(len(view.strides)) if level is None else (level,)
    if points:
        for s in levels:
            for h in range(len(layer.points)) if head is None else (head,):
                rows = zip(layer.points[h, s] * scale, layer.point_weights[h, s], strict=True)
                for place, weight in rows:
                    draw_dot(draw, *place, radius=1.5 + _LARGEST_POINT * float(weight) ** 0.5)
    elif marks and layer.centers is not None:
        for s in levels:
            if level is None and _hardly_counts(layer, s):
                continue
            count = len(layer.centers[s])
            for h in range(count) if head is None else (head % count,):
                draw_ellipse(draw, layer.centers[s, h] * scale, layer.half_axes[s, h] * scale)
        draw_cross(draw, *(layer.center * scale))
    return np.asarray(canvas)


def _hardly_counts(layer: LayerView, level: int) -> bool:
    return layer.level_weights is not None and layer.level_weights[level] < _LEAST_SHARE


def _size_of(view: QueryView, width: int) -> tuple[int, int]:
    return width, max(1, round(width * view.size[0] / view.size[1]))


def _head_text(text: str, which: dict[str, int]) -> str:
    return f"head {which['head'] + 1}: {text}" if "head" in which else text


def _weights_text(view: QueryView, layer: LayerView) -> str:
    if layer.level_weights is None or len(view.strides) == 1:
        return ""
    parts = zip(view.strides, layer.level_weights, strict=True)
    return "; scales " + ", ".join(f"{stride}: {weight:.2f}" for stride, weight in parts)


def _labelled(picture: np.ndarray, text: str) -> np.ndarray:
    return np.vstack([picture, caption_bar(text, picture.shape[1], _BAR)])


def _is_drawn(panel: np.ndarray | None) -> bool:
    return panel is not None


def _row(panels: Sequence[np.ndarray | None]) -> np.ndarray:
    """Prior, before and after beside each other, or the heads of one of them; what is missing is said."""
    shape = next(panel.shape for panel in panels if panel is not None)
    parts = []
    for index, panel in enumerate(panels):
        if panel is None:
            panel = np.full(shape, _BLANK, np.uint8)
            panel[-_BAR:] = caption_bar(_MISSING[min(index, 2)], shape[1], _BAR)
        parts += [panel, np.full((shape[0], _GAP, 3), 255, np.uint8)]
    row = np.hstack(parts[:-1])
    return np.vstack([row, np.full((_GAP, row.shape[1], 3), 255, np.uint8)])
