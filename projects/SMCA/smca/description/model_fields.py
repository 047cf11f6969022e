"""Where things stand in the ``model`` node of a config: of ours, and of Detectron2's R-CNN and dense detectors."""

from collections.abc import Mapping, MutableMapping, Sequence

NUM_CLASSES_FIELDS = ("num_classes", "roi_heads.num_classes", "head.num_classes")

DETECTION_LIMITS = (
    "postprocessor.max_detections",
    "roi_heads.box_predictor.test_topk_per_image",
)
"""Most detections per image; the model's attributes have the same names."""


def find_field(model: Mapping, fields: Sequence[str]) -> tuple[MutableMapping, str] | None:
    """The mapping and the key of the first of ``fields`` that the node, lazy or plain, has."""
    for field in fields:
        *parents, key = field.split(".")
        node = model
        for parent in parents:
            node = node.get(parent) if isinstance(node, Mapping) else None
        if isinstance(node, Mapping) and key in node:
            return node, key
    return None


def num_classes_of(model: Mapping) -> int | None:
    """Classes of a model; None if its config does not say, or leaves them to the data."""
    found = find_field(model, NUM_CLASSES_FIELDS)
    return None if found is None else found[0][found[1]]
