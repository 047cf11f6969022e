"""Evaluations of hand-made boxes, through the evaluator as a training has it."""

from __future__ import annotations

import json
import uuid
from pathlib import Path

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from PIL import Image

from smca.data import load_detection_dataset
from smca.evaluation import CocoEvaluator, CocoOutcome


def evaluated(
    folder: Path,
    objects: list[tuple],
    found: list[tuple],
    *,
    names: tuple[str, ...] = ("cat", "dog"),
    images: int = 2,
    with_files: bool = False,
) -> CocoOutcome:
    """The outcome of detections on images of 100 x 100 pixels.

    Args:
        folder: for the json.
        objects: (image, class, (x, y, width, height)) and, for a crowd, True.
        found: (image, class, (x, y, width, height), score).
        names: of the classes.
        images: how many there are.
        with_files: black images are written into the folder and found by the evaluation.
    """
    content = {
        "images": [
            {"id": i, "width": 100, "height": 100, "file_name": f"{i}.png"} for i in range(images)
        ],
        "categories": [{"id": k + 1, "name": name} for k, name in enumerate(names)],
        "annotations": [
            {
                "id": n,
                "image_id": image,
                "category_id": k + 1,
                "bbox": list(box),
                "area": box[2] * box[3],
                "iscrowd": int(any(crowd)),
            }
            for n, (image, k, box, *crowd) in enumerate(objects, start=1)
        ],
    }
    name = f"hand_made_{uuid.uuid4().hex}"
    path = folder / f"{name}.json"
    path.write_text(json.dumps(content))
    register_coco_instances(name, {}, str(path), str(folder))
    try:
        if with_files:
            for i in range(images):
                Image.new("RGB", (100, 100)).save(folder / f"{i}.png")
            load_detection_dataset(name)
        evaluator = CocoEvaluator(name)
        evaluator.reset()
        evaluator._predictions = [
            {
                "image_id": image,
                "instances": [
                    {"image_id": image, "category_id": k, "bbox": list(box), "score": score}
                ],
            }
            for image, k, box, score in found
        ]
        evaluator.evaluate()
    finally:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
    return evaluator.outcome


def random_case(seed, classes=3, images=6):
    """Objects, a few of them crowds, and detections near and far, with ties in score and more than ten of a class."""
    rng = np.random.RandomState(seed)
    objects, found = [], []
    for image in range(images - 1):
        for _ in range(rng.randint(1, 6)):
            box = np.concatenate([rng.randint(0, 60, 2), rng.randint(8, 40, 2)]).astype(float)
            k = int(rng.randint(classes))
            objects.append((image, k, tuple(box), bool(rng.rand() < 0.15)))
            for _ in range(rng.randint(4)):
                near = box + rng.randn(4) * 3
                near[2:] = near[2:].clip(2)
                is_wrong = rng.rand() < 0.2
                found.append(
                    (
                        image,
                        int(rng.randint(classes)) if is_wrong else k,
                        tuple(near),
                        rng.randint(1, 20) / 20,
                    )
                )
    found += [
        (
            int(rng.randint(images)),
            int(rng.randint(classes)),
            (*rng.randint(0, 60, 2), 15, 15),
            rng.randint(1, 20) / 20,
        )
        for _ in range(15)
    ]
    return objects, [(i, k, tuple(map(float, box)), s) for i, k, box, s in found]
