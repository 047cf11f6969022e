#!/usr/bin/env python
"""A training step at COCO's size: the package's models beside the same written down and DETR of transformers.

    python benchmarks/step_speed.py --threads 2 --clock wall --rounds 5 --memory

800x1066, single-scale with a batch of 2, full SMCA with 1, the recipe's dropout, seven objects an image. DETR of
transformers shows that the form written down is no straw man: without the prior it is the same model. Three steps of
each come first, as long as the allocator needs; then they take turns.
"""

from functools import partial

from contestants import WITHOUT_PRIOR, training_step
from speed_harness import benchmark_arguments, compare, peak_memory_mb, store

GROUPS = {
    "single-scale, batch 2": (
        2,
        (
            *("SMCA single-scale, written down", "SMCA single-scale", "DETR"),
            *("DETR of transformers", WITHOUT_PRIOR),
        ),
    ),
    "full, batch 1": (1, ("SMCA, written down", "SMCA", "Deformable DETR")),
}


def main() -> None:
    args = benchmark_arguments(__doc__, "step_speed.json")
    settings = {"rounds": args.rounds, "clock": args.clock}
    report = {}
    for group, (batch, names) in GROUPS.items():
        calls = {name: training_step(name, batch=batch) for name in names}
        report[group] = compare(calls, baseline=names[0], warm_up=3, **settings)
        del calls
        for name in names if args.memory else ():
            peak = peak_memory_mb(partial(training_step, name, batch=batch))
            report[group][name]["peak_mb"] = round(peak, 1)
            print(f"{name}: {peak:.0f} MiB", flush=True)
        store(args.output, report, **settings)


if __name__ == "__main__":
    main()
