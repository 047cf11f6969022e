"""Where a model looked in an image: its spatial prior, of models that have one."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from detectron2.data import MetadataCatalog
from torch import nn

from smca.errors import InputError
from smca.visualization import draw_priors

DrawAttention = Callable[[str, float], np.ndarray | None]
"""An image file and the lowest score of a detection -> (height, width, 3) RGB uint8, None if nothing can be drawn."""
_DETECTIONS = 3


def attention_of(model: nn.Module, loader: Iterable, dataset_name: str) -> DrawAttention | None:
    """What draws the prior of a model's best detections; None for a model without one.

    Args:
        model: in any mode, on any device.
        loader: of its evaluation, whose mapper makes the model's input; one of a user's own may have none.
        dataset_name: registered name of the data, for names of classes.
    """
    mapper = getattr(getattr(loader, "dataset", None), "mapper", None)
    if mapper is None or getattr(getattr(model, "decoder", None), "modulation", None) is None:
        return None

    def draw(path: str, threshold: float) -> np.ndarray | None:
        try:
            return draw_priors(
                model,
                mapper({"file_name": path}),
                class_names=MetadataCatalog.get(dataset_name).get("thing_classes") or (),
                count=_DETECTIONS,
                score_threshold=threshold,
            )
        except InputError:
            # Of another kind than SMCA's, or an image that cannot be read, which the page says elsewhere.
            return None

    return draw
