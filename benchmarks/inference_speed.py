#!/usr/bin/env python
"""One image at COCO's size, pixels to detections: the package's detectors beside written-down SMCA and others.

    python benchmarks/inference_speed.py --threads 2 --clock wall --rounds 3

800x1066, batch 1, drawn weights, float32 and bfloat16 (autocast), some compiled, too. Ratios are to single-scale SMCA
written down, in float32. All is measured twice: as a process is by itself, and with freed memory kept, as smca-predict
keeps it, by all of them alike. A process that holds many models keeps much of it by itself; ``--only`` some measures
them as they run by themselves. The products of large matrices show what the processor could do.
"""

import torch
from contestants import COCO_SIZE, CPU, NAMES, PRECISIONS, prediction
from speed_harness import benchmark_arguments, compare, matmul_peak, store

from smca.inference.command.freed_memory import keep_freed_memory

COMPILED = ("SMCA single-scale", "SMCA", "DETR", "Deformable DETR")
VARIANTS = {name: (name, False) for name in NAMES} | {
    f"{name}, compiled": (name, True) for name in COMPILED
}
BASELINE = "SMCA single-scale, written down"


def main() -> None:
    args = benchmark_arguments(__doc__, "inference_speed.json", names=list(VARIANTS))
    settings = {"rounds": args.rounds, "clock": args.clock}
    peaks = {
        precision: matmul_peak(CPU, dtype or torch.float32)
        for precision, dtype in PRECISIONS.items()
    }
    report = {"image": COCO_SIZE, "peak_tflops": peaks}
    calls = {
        f"{variant}, {precision}": prediction(name, precision=precision, compiled=compiled)
        for variant, (name, compiled) in VARIANTS.items()
        for precision in PRECISIONS
        if variant in {*args.only, BASELINE}
    }
    settings |= {"baseline": f"{BASELINE}, float32", "warm_up": 1}
    report["times"] = compare(calls, **settings)
    store(args.output, report, **settings)
    keep_freed_memory()
    report["times, freed memory kept"] = compare(calls, **settings)
    store(args.output, report, **settings)


if __name__ == "__main__":
    main()
