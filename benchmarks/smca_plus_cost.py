#!/usr/bin/env python
"""What each part beyond the paper costs at COCO's sizes: ratios to the paper's single-scale model.

    python benchmarks/smca_plus_cost.py --rounds 3

Of one 800x1066 image with seven objects: seconds of a training step (forward, matching, backward), what it keeps for
the backward pass, and seconds of a prediction, for the single-scale ResNet-50 model on one thread of a CPU. Seconds are
the process's own, so that others on the machine count less; variants take turns in every round, and ratios are the
medians over the rounds.
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
from smca.configs.models.plus import use_parts

VARIANTS = ("", "A", "C", "D", "AB", "AC", "AD", "AE", "ABCDE")
SIZE = (800, 1066)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", default="benchmarks/results/smca_plus_cost.json")
    args = parser.parse_args()
    torch.set_num_threads(1)
    report = {**surroundings(), "image": list(SIZE), "rounds": args.rounds, "parts": []}
    models = {parts: build(parts) for parts in VARIANTS}
    measured = {parts: {"step": [], "prediction": []} for parts in VARIANTS}
    kept = {parts: bytes_kept(model) for parts, model in models.items()}  # and a warm-up
    for _ in range(args.rounds):
        for parts, model in models.items():
            measured[parts]["step"].append(time_step(model))
            measured[parts]["prediction"].append(time_prediction(model))
    print(
        f"{'parts':8s} {'step':>6s} {'memory':>7s} {'prediction':>10s}   as ratios to the paper's"
    )
    for parts in VARIANTS:
        ratios = {
            name: statistics.median(
                value / base for value, base in zip(values, measured[""][name], strict=True)
            )
            for name, values in measured[parts].items()
        }
        row = {
            "parts": parts or "paper",
            "step_ratio": round(ratios["step"], 3),
            "memory_ratio": round(kept[parts] / kept[""], 3),
            "prediction_ratio": round(ratios["prediction"], 3),
            "step_seconds": round(statistics.median(measured[parts]["step"]), 3),
            "kept_mib": round(kept[parts] / 2**20, 1),
            "prediction_seconds": round(statistics.median(measured[parts]["prediction"]), 3),
        }
        report["parts"].append(row)
        print(
            f"{row['parts']:8s} {row['step_ratio']:6.2f} {row['memory_ratio']:7.2f} {row['prediction_ratio']:10.3f}"
        )
    Path(args.output).write_text(json.dumps(report, indent=1) + "\n")


def build(parts: str) -> torch.nn.Module:
    config = model_zoo.get_config("smca_single_scale_r50_50ep").model
    use_parts(config, parts)
    torch.manual_seed(0)
    model = instantiate(config)
    keep_in_range(model)
    return model


def image() -> dict:
    return drawn_image(SIZE, torch.Generator().manual_seed(0))


def bytes_kept(model: torch.nn.Module) -> int:
    """Bytes of tensors that autograd keeps between the passes, parameters not counted."""
    own = {p.untyped_storage().data_ptr() for p in (*model.parameters(), *model.buffers())}
    kept = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    torch.manual_seed(0)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        losses = model.train()([image()])
    sum(losses.values()).backward()
    model.zero_grad(set_to_none=True)
    return sum(kept.values())


def time_step(model: torch.nn.Module) -> float:
    batch = [image()]
    model.train()
    start = time.process_time()
    sum(model(batch).values()).backward()
    seconds = time.process_time() - start
    model.zero_grad(set_to_none=True)
    return seconds


@torch.no_grad()
def time_prediction(model: torch.nn.Module) -> float:
    batch = [image()]
    model.eval()
    start = time.process_time()
    model(batch)
    return time.process_time() - start


if __name__ == "__main__":
    main()
