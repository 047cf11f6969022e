#!/usr/bin/env python
"""What batching by resized shape and folded norms bring: ratios of times measured in turns.

    python benchmarks/predictor_batching.py

32 images of four sizes, all at once against one at a time, with the small digits model and with the full-size
single-scale one at a reduced test size; then one image with norms as they are and folded. Weights are drawn: times
do not depend on them, and agreement is looked at beside the times. Milliseconds are those of the fastest round,
ratios the median over the rounds.
"""

import argparse
import copy
import itertools
import json
from pathlib import Path

import numpy as np
import torch
from detectron2.layers import FrozenBatchNorm2d
from detectron2.structures import Instances
from surroundings import surroundings
from torch import nn

from smca import Predictor, model_zoo
from smca.analysis.latency import measure_in_turns, ratio_of_rounds
from smca.inference.fold_norms import fold_norms

NUM_IMAGES = 32
BATCHING = {
    # Name in the zoo, short and long side of the resized images.
    "digits/smca_single_scale": (128, 128),
    "smca_single_scale_r50_50ep": (160, 160),
}
FOLDING = {"smca_single_scale_r50_50ep": (480, 640)}
SIZES = [(128, 128), (96, 128), (128, 96), (64, 64)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", default="benchmarks/results/predictor_batching.json")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    report = {
        **surroundings(),
        "repeat": args.repeat,
        "batching": {name: measure_batching(name, *s, args.repeat) for name, s in BATCHING.items()},
        "folding": {name: measure_folding(name, *s, args.repeat) for name, s in FOLDING.items()},
    }
    Path(args.output).write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report, indent=1))


def measure_batching(name: str, min_size: int, max_size: int, repeat: int) -> dict[str, float]:
    predictor = Predictor(
        model=drawn_model(name), min_size=min_size, max_size=max_size, device="cpu"
    )
    rng = np.random.default_rng(0)
    sizes = itertools.islice(itertools.cycle(SIZES), NUM_IMAGES)
    images = [rng.integers(256, size=(*size, 3), dtype=np.uint8) for size in sizes]
    singles = [predictor(image) for image in images]
    together = predictor(images)
    seconds = measure_in_turns(
        {
            "one at a time": lambda: [predictor(image) for image in images],
            "together": lambda: predictor(images),
        },
        repeat=repeat,
    )
    return {
        **{f"ms per image, {k}": 1000 * min(v) / NUM_IMAGES for k, v in seconds.items()},
        "time together / one at a time": ratio_of_rounds(
            seconds["together"], seconds["one at a time"]
        ),
        "largest difference of a score": max(map(score_difference, singles, together)),
    }


def measure_folding(name: str, height: int, width: int, repeat: int) -> dict[str, float]:
    plain = drawn_model(name).eval()
    folded = copy.deepcopy(plain)
    fold_norms(folded)
    channels_last = copy.deepcopy(folded).to(memory_format=torch.channels_last)
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(256, (3, height, width), generator=generator, dtype=torch.uint8)

    def call(model: nn.Module):
        @torch.no_grad()
        def run() -> dict[str, torch.Tensor]:
            return model.raw_outputs([{"image": image}])

        return run

    calls = {
        "plain": call(plain),
        "folded": call(folded),
        "folded, channels_last": call(channels_last),
    }
    outputs = [run() for run in calls.values()]
    seconds = measure_in_turns(calls, repeat=repeat)
    return {
        **{f"ms per image, {k}": 1000 * min(v) for k, v in seconds.items()},
        **{
            f"time {k} / plain": ratio_of_rounds(seconds[k], seconds["plain"])
            for k in list(calls)[1:]
        },
        "largest difference of an output": max(
            (outputs[0][key] - other[key]).abs().max().item()
            for other in outputs[1:]
            for key in other
        ),
    }


def drawn_model(name: str) -> nn.Module:
    """With norms that do something, and detections that depend on the image."""
    torch.manual_seed(0)
    model = model_zoo.get(name)
    for module in model.modules():
        if isinstance(module, FrozenBatchNorm2d | nn.BatchNorm2d):
            with torch.no_grad():
                module.weight.normal_(0.7, 0.1)
                module.bias.normal_(0, 0.1)
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    nn.init.normal_(model.heads.classifier.weight, std=0.1)
    nn.init.normal_(model.heads.box.layers[-1].weight, std=0.1)
    return model


def score_difference(a: Instances, b: Instances) -> float:
    return (a.scores - b.scores).abs().max().item()


if __name__ == "__main__":
    main()
