#!/usr/bin/env python
"""Training speed and memory at COCO image sizes, and what 50 epochs would cost.

    python benchmarks/train_speed.py                          # SMCA full and single-scale R50, all precisions
    python benchmarks/train_speed.py --images 2 --steps 3 --configs smca_single_scale_r50_50ep    # a short look

Random images of COCO's sizes and boxes, whole steps of the project's trainer (forward, matching, backward, clipping,
AdamW), on one GPU, or slowly on a CPU. Precisions take turns inside a round, so that ratios are of one run. A
precision that does not fit in memory is reported as such.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import torch
from detectron2.config import instantiate
from drawn import drawn_image, keep_in_range
from surroundings import surroundings

from smca import model_zoo
from smca.data import TrainLoader
from smca.engine import MixedPrecision, Trainer

ROOT = Path(__file__).resolve().parents[1]
COCO_IMAGES = 118_287
EPOCHS = 50
PAPER_V100_HOURS = {"smca_r50_50ep": 600, "smca_single_scale_r50_50ep": 265}
VARIANTS = {
    "fp32": (None, False),
    "bf16": ("bfloat16", False),
    "fp16": ("float16", False),
    "bf16 + checkpointing": ("bfloat16", True),
}
# (height, width) of resized COCO images, from small to large augmentation; landscape and portrait.
SIZES = [
    (480, 640),
    (608, 810),
    (704, 938),
    (800, 1066),
    (800, 1201),
    (1066, 800),
    (640, 853),
    (512, 768),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--configs", nargs="+", default=list(PAPER_V100_HOURS))
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--images", type=int, default=4, help="images per step and GPU")
    parser.add_argument(
        "--steps", type=int, default=12, help="measured steps per variant and round"
    )
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--output", default=str(ROOT / "benchmarks/results/train_speed.json"))
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    report = {
        **surroundings(),
        "images_per_step": args.images,
        "runs": [],
    }
    columns = (
        "config",
        "variant",
        "images/s",
        "ratio",
        "GiB",
        "loss",
        "GPU h, 50 ep",
        "paper V100 h",
    )
    print("  ".join(columns), flush=True)
    for config in args.configs:
        times: dict[str, list[float]] = {name: [] for name in args.variants}
        results: dict[str, dict] = {}
        for _ in range(args.rounds):
            for name in args.variants:
                try:
                    results[name] = measure(config, name, device, args, times[name])
                except torch.OutOfMemoryError:
                    results[name] = {"error": "out of memory"}
        base = None
        for name in args.variants:
            run = {"config": config, "variant": name, **results[name]}
            if times[name]:
                rate = args.images / statistics.median(times[name])
                base = base or rate
                run |= {
                    "images_per_second": round(rate, 2),
                    "ratio_to_first": round(rate / base, 3),
                    "gpu_hours_50_epochs": round(COCO_IMAGES * EPOCHS / rate / 3600, 1),
                    "paper_v100_hours": PAPER_V100_HOURS.get(config),
                }
                fields = (
                    *("images_per_second", "ratio_to_first", "peak_gib", "loss"),
                    *("gpu_hours_50_epochs", "paper_v100_hours"),
                )
                print(f"{config:28s} {name:22s}", *(run[field] for field in fields), flush=True)
            else:
                print(f"{config:30s} {name:22s} {results[name]['error']}", flush=True)
            report["runs"].append(run)
            Path(args.output).write_text(json.dumps(report, indent=1) + "\n")


def measure(
    config: str, variant: str, device: str, args: argparse.Namespace, times: list[float]
) -> dict:
    """Add the seconds of every measured step to ``times``; returns memory and the last loss."""
    dtype, checkpointing = VARIANTS[variant]
    cfg = model_zoo.get_config(config)
    cfg.model.encoder.activation_checkpointing = checkpointing
    torch.manual_seed(0)
    model = instantiate(cfg.model)
    keep_in_range(model)
    model = model.to(device)
    cfg.optimizer.params.model = model
    trainer = Trainer(
        model=model,
        loader=TrainLoader(
            dataset=make_images(64), mapper=dict, total_batch_size=args.images, num_workers=0
        ),
        optimizer=instantiate(cfg.optimizer),
        clip_grad_norm=0.1,
        precision=MixedPrecision(device_type=device, dtype=dtype),
        skip_nonfinite=16 if dtype == "float16" else 0,
    )
    step = trainer.run_step

    def timed() -> None:
        synchronize(device)
        start = time.perf_counter()
        step()
        synchronize(device)
        if trainer.iter >= warm_up:
            times.append(time.perf_counter() - start)

    warm_up = min(3, args.steps)
    trainer.run_step = timed
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    trainer.train(0, warm_up + args.steps)
    peak = torch.cuda.max_memory_allocated() / 2**30 if device == "cuda" else None
    return {
        "peak_gib": peak and round(peak, 2),
        "loss": round(trainer.storage.latest()["total_loss"][0], 4),
    }


def make_images(number: int) -> list[dict]:
    generator = torch.Generator().manual_seed(0)
    return [
        {**drawn_image(SIZES[index % len(SIZES)], generator), "file_name": f"{index}.jpg"}
        for index in range(number)
    ]


def synchronize(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
