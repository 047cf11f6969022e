"""COCO's 80 categories among the ids 1..90, the ten gaps left out."""

from detectron2.data.datasets.builtin_meta import COCO_CATEGORIES

_THINGS = [category for category in COCO_CATEGORIES if category["isthing"]]

COCO_CATEGORY_IDS = tuple(category["id"] for category in _THINGS)
"""Category id of each of the 80 contiguous classes, in order."""

COCO_CLASS_NAMES = tuple(category["name"] for category in _THINGS)
"""Their names, in the same order."""
