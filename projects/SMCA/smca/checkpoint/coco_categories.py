"""COCO's 80 categories among the ids 1..90, the ten gaps left out."""

from detectron2.data.datasets.builtin_meta import COCO_CATEGORIES

COCO_CATEGORY_IDS = tuple(c["id"] for c in COCO_CATEGORIES if c["isthing"])
"""Category id of each of the 80 contiguous classes, in order."""
