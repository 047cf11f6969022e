"""The page on which objects, layers, heads and scales are chosen."""

import base64
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from smca.text import class_name
from smca.visualization.boxes import class_color, paint_boxes
from smca.visualization.heat import heat_colors
from smca.visualization.html_page import data_url, write_page

from .maps import share_of_points, shares_in_box
from .models import NamedModel
from .objects import Seen
from .views import LayerView, QueryView

_TEMPLATE = Path(__file__).parent / "templates" / "attention.html"
_LONGEST_SIDE = 640
_SHORTEST_SIDE = 384
"""Smaller images are enlarged where objects are numbered, so that numbers are readable."""


@dataclass(frozen=True)
class SeenImage:
    """An image with its objects.

    Attributes:
        name: for people.
        picture: RGB.
        objects: per object M views.
    """

    name: str
    picture: Image.Image
    objects: list[list[Seen]]


def write_attention_page(
    path: str | os.PathLike,
    images: Sequence[SeenImage],
    models: Sequence[NamedModel],
    survey: dict[str, Any] | None = None,
) -> None:
    """Write the page, whole or not at all.

    Args:
        path: of the page.
        images: with at least one object.
        models: M, in the order of the views.
        survey: over many images, "images", "threshold" and "models" of :func:`~.survey.summarize`.
    """
    data = page_data(images, models)
    names = [model.name for model in models]
    write_page(
        path,
        _TEMPLATE,
        title="Where the queries look"
        if len(models) > 1
        else f"Where the queries of {names[0]} look",
        data=data,
        survey=survey,
        overviews=[
            {"name": image.name, "src": _source(_numbered(image, first, models[0]))}
            for image, first in zip(images, _starts(images), strict=True)
        ],
    )


def page_data(images: Sequence[SeenImage], models: Sequence[NamedModel]) -> dict[str, Any]:
    """What the page draws, as json; coordinates are in [0, 1] of the image."""
    objects = []
    for index, image in enumerate(images):
        for seen in image.objects:
            label = f"{len(objects) + 1}: {_found(seen[0], models[0])}"
            views = [
                _view(one, first=seen[0], model=model)
                for one, model in zip(seen, models, strict=True)
            ]
            objects.append({"label": label, "image": index, "views": views})
    strides = sorted({stride for o in objects for v in o["views"] for stride in v["strides"]})
    every = [view for o in objects for view in o["views"]]
    return {
        "models": [{"name": model.name, "kind": model.kind} for model in models],
        "images": [_small(image.picture) for image in images],
        "objects": objects,
        "layers": max(len(view["layers"]) for view in every),
        "heads": max(view["heads"] for view in every),
        "strides": strides,
        "colors": heat_colors().flatten().tolist(),
    }


def _view(seen: Seen, *, first: Seen, model: NamedModel) -> dict[str, Any]:
    view = seen.view
    height, width = view.size
    text = f"It says {_found(seen, model)}"
    if not seen.is_found:
        text = (
            f"It has not found this object; the nearest of its boxes overlaps by {seen.overlap:.0%} and says "
            f"{_found(seen, model)}"
        )
    layers = [_layer(view, layer) for layer in view.layers]
    return {
        "says": f"{text} (query {view.query}).",
        "notes": list(view.notes),
        "strides": list(view.strides),
        "cells": [[stride / width, stride / height] for stride in view.strides],
        "origin": view.cell_origin,
        "box": _relative(view, view.box.reshape(2, 2)),
        "heads": max(layer["heads"] for layer in layers),
        "layers": layers,
    }


def _layer(view: QueryView, layer: LayerView) -> dict[str, Any]:
    content: dict[str, Any] = {
        "box": _relative(view, layer.box.reshape(2, 2)),
        "weights": None if layer.level_weights is None else _rounded(layer.level_weights),
        "heads": 1,
    }
    if layer.centers is not None:
        content |= {
            "center": _relative(view, layer.center),
            "centers": _relative(view, layer.centers),
            "half": _relative(view, np.minimum(layer.half_axes, 1e6)),
        }
    for name in ("priors", "before", "after"):
        maps = getattr(layer, name)
        is_needed = maps is not None and not (name == "priors" and layer.centers is not None)
        content[name] = [_packed(cells) for cells in maps] if is_needed else None
        if maps is not None:
            content["heads"] = max(content["heads"], *(len(cells) for cells in maps))
    for name in ("before", "after"):
        maps = getattr(layer, name)
        if maps is not None:
            content[f"{name}_inside"] = _rounded(shares_in_box(view, maps, view.box))
    if layer.points is not None:
        content |= {
            "points": _relative(view, layer.points),
            "point_weights": _rounded(layer.point_weights),
            "after_inside": _rounded(share_of_points(layer, view.box)),
            "heads": len(layer.points),
        }
    return content


def _packed(cells: np.ndarray) -> dict[str, Any]:
    """(H, h, w) in 8 bits, each head by its own largest value."""
    peaks = cells.max((1, 2))
    whole = cells / np.maximum(peaks, np.finfo(np.float32).tiny)[:, None, None] * 255
    text = base64.b64encode(whole.round().astype(np.uint8).tobytes()).decode("ascii")
    return {
        "size": list(cells.shape[1:]),
        "peaks": [float(f"{p:.4g}") for p in peaks],
        "values": text,
    }


def _relative(view: QueryView, points: np.ndarray) -> list:
    height, width = view.size
    return _rounded(points / np.array([width, height]))


def _rounded(values: np.ndarray) -> list:
    return np.round(values.astype(float), 4).tolist()


def _found(seen: Seen, model: NamedModel) -> str:
    name = class_name(seen.class_id, model.predictor.class_names)
    return f"{name if model.predictor.class_names else f'class {name}'}, {seen.score:.2f}"


def _starts(images: Sequence[SeenImage]) -> list[int]:
    """The first number of each image's objects."""
    starts = [1]
    for image in images[:-1]:
        starts.append(starts[-1] + len(image.objects))
    return starts


def _numbered(image: SeenImage, first: int, model: NamedModel) -> Image.Image:
    """The image with the boxes of its objects and their numbers."""
    picture = _fitted(image.picture)
    sides = np.array(picture.size * 2)
    boxes, labels, colors = [], [], []
    for number, seen in enumerate(image.objects, first):
        height, width = seen[0].view.size
        boxes.append(seen[0].view.box / np.array([width, height] * 2) * sides)
        labels.append(f"{number}: {_found(seen[0], model)}")
        colors.append(class_color(seen[0].class_id))
    scale = max(1.0, _SHORTEST_SIDE / min(picture.size))
    return Image.fromarray(paint_boxes(np.asarray(picture), boxes, labels, colors, scale=scale))


def _small(picture: Image.Image) -> dict[str, Any]:
    fitted = _fitted(picture)
    return {"src": _source(fitted), "width": fitted.width, "height": fitted.height}


def _fitted(picture: Image.Image) -> Image.Image:
    fitted = picture.copy()
    fitted.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE))
    return fitted


def _source(picture: Image.Image) -> str:
    return data_url(picture, "JPEG", quality=90)
