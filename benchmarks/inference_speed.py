#!/usr/bin/env python
"""One image at COCO's size, pixels to detections: the package's detectors beside written-down SMCA and others.

    python benchmarks/inference_speed.py --threads 2 --clock wall --rounds 5

800x1066, batch 1, drawn weights, float32 and bfloat16 (autocast). Ratios are to single-scale SMCA written down, in
float32.
"""

from contestants import COCO_SIZE, NAMES, PRECISIONS, prediction
from speed_harness import benchmark_arguments, compare, store

BASELINE = "SMCA single-scale, written down, float32"


def main() -> None:
    args = benchmark_arguments(__doc__, "inference_speed.json")
    settings = {"rounds": args.rounds, "clock": args.clock}
    calls = {
        f"{name}, {precision}": prediction(name, precision=precision)
        for name in NAMES
        for precision in PRECISIONS
    }
    times = compare(calls, baseline=BASELINE, warm_up=1, **settings)
    store(args.output, {"image": COCO_SIZE, "times": times}, **settings)


if __name__ == "__main__":
    main()
