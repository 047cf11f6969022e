#!/usr/bin/env python
"""Does every variant learn? Short trainings on the bundled digits, several seeds each.

    python benchmarks/learning_check.py --iterations 600 --seeds 0 1
    python benchmarks/learning_check.py --only "Deformable DETR" DETR --output FILE --resume

Parity tests compare layers with oracles; a wrong initialisation passes them and shows only here, as a
variant that stays at zero AP where its siblings do not. Prints a table as it goes, and writes it with
machine and versions to a JSON file, whole after every run; ``--resume`` keeps the runs that the file has.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

from detectron2.config import instantiate
from surroundings import surroundings

from smca import model_zoo
from smca.engine import RunInputs, prepare_training
from smca.experiments import apply_overrides
from smca.whole_file import replacing

SINGLE = "digits/smca_single_scale"
FULL = "digits/smca"
VARIANTS = {
    "SMCA single-scale, independent": (SINGLE, []),
    "SMCA single-scale, single": (SINGLE, ["model.decoder.modulation.scale=single"]),
    "SMCA single-scale, fixed": (SINGLE, ["model.decoder.modulation.scale=fixed"]),
    "SMCA single-scale, head-shared": (SINGLE, ["model.decoder.modulation.per_head=False"]),
    "SMCA single-scale, independent, bf16": (SINGLE, ["train.amp.enabled=True"]),
    "SMCA full": (FULL, []),
    "SMCA full, no scale selection": (FULL, ["model.decoder.modulation.scale_selection=False"]),
    "DETR": ("digits/detr", []),
    "Deformable DETR single-scale": ("digits/deformable_detr_single_scale", []),
    "Deformable DETR": ("digits/deformable_detr", []),
    "Deformable DETR, refined": ("digits/deformable_detr_refine", []),
    "Deformable DETR, two stages": ("digits/deformable_detr_two_stage", []),
    "Faster R-CNN FPN": ("digits/faster_rcnn", []),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--iterations", type=int, default=600)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--only", nargs="+", choices=sorted(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--output", default="benchmarks/results/learning_check.json")
    parser.add_argument("--resume", action="store_true", help="do only what the output lacks")
    args = parser.parse_args()
    report = {**surroundings(), "iterations": args.iterations, "runs": []}
    output = Path(args.output)
    if args.resume and output.exists():
        report = json.loads(output.read_text())
        if report["iterations"] != args.iterations:
            parser.error(f"{output} holds runs of {report['iterations']} iterations")
    finished = {(run["variant"], run["seed"]) for run in report["runs"]}
    print(
        f"{'variant':38s} {'seed':>4s} {'loss':>14s} {'AP':>6s} {'AP50':>6s} {'AR100':>6s} {'s':>5s}"
    )
    for variant in args.only:
        for seed in args.seeds:
            if (variant, seed) in finished:
                continue
            run = {
                "variant": variant,
                "seed": seed,
                **train_briefly(variant, seed, args.iterations),
            }
            report["runs"].append(run)
            print(
                f"{variant:38s} {seed:4d} {run['loss_first']:6.2f} ->{run['loss_last']:5.2f} {run['AP']:6.2f} "
                f"{run['AP50']:6.2f} {run['AR100']:6.2f} {run['seconds']:5.0f}",
                flush=True,
            )
            with replacing(output) as file:
                file.write_text(json.dumps(report, indent=1) + "\n")


def train_briefly(variant: str, seed: int, iterations: int) -> dict[str, float]:
    """Train one variant, evaluate it once, and return first and last loss (means of 20 iterations) and AP."""
    name, overrides = VARIANTS[variant]
    start_time = time.perf_counter()
    with tempfile.TemporaryDirectory() as output_dir:
        common = [
            "dataloader.train.total_batch_size=8",
            f"train.max_iter={iterations}",
            f"train.seed={seed}",
            f"train.output_dir={output_dir}",
            "train.log_period=20",
            "train.evaluation.period=0",
            f"train.checkpointer.period={iterations + 1}",
        ]
        cfg = apply_overrides(model_zoo.get_config(name), [*common, *overrides])
        # The rate drops at 80% of the short run, as it does in a long one.
        per_epoch = len(instantiate(cfg.dataloader.train.dataset)) / (
            cfg.dataloader.train.total_batch_size
        )
        cfg.lr_multiplier.drop_epochs = [0.8 * iterations / per_epoch]
        trainer, first, last = prepare_training(RunInputs(cfg, training=True), resume=False)
        trainer.train(first, last)  # evaluates once, after the last iteration
        lines = [json.loads(x) for x in (Path(output_dir) / "metrics.json").open()]
    losses = [line["total_loss"] for line in lines if "total_loss" in line]
    box = {key.removeprefix("bbox/"): value for key, value in lines[-1].items()}
    return {
        "loss_first": losses[0],
        "loss_last": losses[-1],
        **{key: round(box[key], 3) for key in ("AP", "AP50", "AP75", "AR100")},
        "seconds": round(time.perf_counter() - start_time, 1),
    }


if __name__ == "__main__":
    main()
