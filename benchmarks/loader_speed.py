#!/usr/bin/env python
"""How many images a second the data loader gives, and how many the model takes.

    python benchmarks/loader_speed.py

The digits: the loader of configs/digits/smca_single_scale.py alone, beside training steps of that config on batches
that are already there, both on this machine. COCO sizes: JPEG files of 640x480 drawn here, COCO's augmentation, one
loading process; more of them scale until the cores are used up.
"""

import argparse
import itertools
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from detectron2.config import instantiate
from PIL import Image, ImageFilter
from surroundings import surroundings

from smca import model_zoo
from smca.engine import Trainer

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=15.0, help="length of every measurement")
    parser.add_argument("--output", default=str(ROOT / "benchmarks/results/loader_speed.json"))
    args = parser.parse_args()
    report = surroundings()

    cfg = model_zoo.get_config("digits/smca_single_scale")
    workers = cfg.dataloader.train.num_workers
    loading = loader_rate(cfg, args.seconds)
    training = training_rate(cfg, args.seconds)
    report["digits"] = {
        "workers": workers,
        "loader_images_per_second": round(loading, 1),
        "training_images_per_second": round(training, 1),
        "ratio": round(loading / training, 2),
    }
    print(
        f"digits: {workers} workers load {loading:.0f} images/s, training takes {training:.0f}: "
        f"ratio {loading / training:.1f}",
        flush=True,
    )
    with tempfile.TemporaryDirectory() as folder:
        rate = coco_rate(Path(folder), args.seconds)
    report["coco_size"] = {"workers": 1, "loader_images_per_second": round(rate, 2)}
    print(f"COCO sizes, full augmentation: one worker loads {rate:.1f} images/s", flush=True)
    Path(args.output).write_text(json.dumps(report, indent=1) + "\n")


def loader_rate(cfg, seconds: float) -> float:
    loader = instantiate(cfg.dataloader.train)
    batches = iter(loader)
    next(batches)  # the workers are up
    start = time.perf_counter()
    images = 0
    while time.perf_counter() - start < seconds:
        images += len(next(batches))
    rate = images / (time.perf_counter() - start)
    loader.close()
    return rate


def training_rate(cfg, seconds: float) -> float:
    """Steps of the trainer on batches that are in memory already."""
    torch.manual_seed(0)
    model = instantiate(cfg.model)
    cfg.dataloader.train.num_workers = 0
    loader = instantiate(cfg.dataloader.train)
    cached = list(itertools.islice(iter(loader), 4))
    cfg.optimizer.params.model = model

    class Cached:
        start_iteration = 0
        total_batch_size = len(cached[0])

        def __iter__(self):
            return itertools.cycle(cached)

        def close(self):
            pass

    trainer = Trainer(
        model=model, loader=Cached(), optimizer=instantiate(cfg.optimizer), clip_grad_norm=0.1
    )
    trainer.train(0, 2)
    start = time.perf_counter()
    steps = 0
    while time.perf_counter() - start < seconds:
        trainer.train(0, 5)
        steps += 5
    return steps * len(cached[0]) / (time.perf_counter() - start)


def coco_rate(folder: Path, seconds: float, number: int = 16) -> float:
    """Smooth noise compresses about as photographs do."""
    generator = np.random.default_rng(0)
    records = []
    for index in range(number):
        noise = generator.integers(0, 256, (480, 640, 3), dtype=np.uint8)
        path = folder / f"{index}.jpg"
        Image.fromarray(noise).filter(ImageFilter.GaussianBlur(2)).save(path, quality=90)
        corners = generator.uniform(0, 240, (7, 2))
        boxes = np.concatenate([corners, corners + generator.uniform(20, 200, (7, 2))], axis=1)
        annotations = [
            {"bbox": box.tolist(), "bbox_mode": 0, "category_id": 0, "iscrowd": 0} for box in boxes
        ]
        records.append(
            {
                "file_name": str(path),
                "image_id": index,
                "height": 480,
                "width": 640,
                "annotations": annotations,
            }
        )
    print(
        f"  {sum(p.stat().st_size for p in folder.iterdir()) / number / 1e3:.0f} kB a file",
        flush=True,
    )
    node = model_zoo.get_config("smca_r50_50ep")
    node.dataloader.train.dataset = records
    node.dataloader.train.num_workers = 1
    return loader_rate(node, seconds)


if __name__ == "__main__":
    main()
