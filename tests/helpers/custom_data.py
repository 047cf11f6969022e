"""Small COCO-format data sets of a user's own, and overrides that make a model tiny."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
from PIL import Image

TINY_MODEL = [
    "model.backbone.depth=18",
    "model.backbone.stem_channels=8",
    "model.neck.embed_dim=16",
    "model.encoder.blocks=Intra",
    "model.encoder.num_heads=2",
    "model.encoder.ffn_dim=16",
    "model.decoder.num_layers=1",
    "model.decoder.num_queries=5",
    "dataloader.train.total_batch_size=2",
    "dataloader.train.num_workers=0",
    "dataloader.train.mapper.augmentations=[]",
    "dataloader.test.num_workers=0",
    "dataloader.test.mapper.augmentations.0.short_edge_length=32",
    "lr_multiplier.warmup_iterations=0",
    "train.device=cpu",
    "train.max_iter=1",
    "train.log_period=1",
    "train.evaluation.period=0",
    "train.checkpointer.period=0",
]

PETS = {
    "images": [
        {"id": 7, "file_name": "a.png", "width": 40, "height": 32},
        {"id": 9, "file_name": "b.jpg", "width": 33, "height": 48},
        {"id": 12, "file_name": "empty.png", "width": 36, "height": 36},
    ],
    "annotations": [
        {"id": 1, "image_id": 7, "category_id": 11, "bbox": [1, 2, 15, 16.5], "area": 200, "iscrowd": 0},
        {"id": 2, "image_id": 7, "category_id": 3, "bbox": [20, 5, 20, 20], "area": 400, "iscrowd": 0},
        {"id": 5, "image_id": 9, "category_id": 40, "bbox": [3, 3, 25, 40], "area": 1000, "iscrowd": 0},
        {"id": 6, "image_id": 9, "category_id": 3, "bbox": [0, 0, 33, 48], "area": 1584, "iscrowd": 1},
    ],
    "categories": [
        {"id": 40, "name": "emu"},
        {"id": 3, "name": "cat"},
        {"id": 11, "name": "dog"},
    ],
}  # fmt: skip
"""Valid: ids with gaps, categories not in the order of their ids, an empty image, a crowd, images of three sizes."""


def pets() -> dict:
    return copy.deepcopy(PETS)


def write_data_set(
    folder: Path, content: dict | None = None, *, name: str = "data"
) -> tuple[Path, Path]:
    """The json and a folder with an image file of every record of ``PETS``."""
    images = folder / f"{name}_images"
    images.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for image in PETS["images"]:
        pixels = rng.integers(0, 256, (image["height"], image["width"], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(images / image["file_name"])
    json_file = folder / f"{name}.json"
    json_file.write_text(json.dumps(PETS if content is None else content))
    return json_file, images


def data_overrides(train: tuple[Path, Path], val: tuple[Path, Path]) -> list[str]:
    return [
        f"data.train_json={train[0]}",
        f"data.train_images={train[1]}",
        f"data.val_json={val[0]}",
        f"data.val_images={val[1]}",
    ]
