#!/usr/bin/env python
"""What a trained detector saves on another data set, and what the small-data recipe brings.

    python benchmarks/fine_tuning.py --checkpoint output/demo/model_final.pth

1. Other classes: the digits' images with three classes of shapes ("loops", "strokes", "curves") instead of ten digits.
   Steps until AP50 60, from scratch and from the checkpoint.
2. A subset by name: only 1, 3 and 7 of the digits. AP before the first step, and after fine-tuning.
3. 200 images with the classes of shapes: the default recipe from scratch and from the checkpoint, the same for as many
   epochs as the small-data recipe has, and that recipe (configs/digits/fine_tune.py); several seeds each.
"""

import argparse
import contextlib
import json
import tempfile
from pathlib import Path

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from surroundings import surroundings

from smca import model_zoo
from smca.data import ensure_digits
from smca.engine import RunInputs, evaluate_only, prepare_training
from smca.experiments import apply_overrides

ROOT = Path(__file__).resolve().parents[1]
SCRATCH, TUNE = "digits/smca_single_scale", "digits/fine_tune"
SHAPES = {"loops": (0, 6, 8, 9), "strokes": (1, 4, 7), "curves": (2, 3, 5)}
SUBSET = {"1": (1,), "3": (3,), "7": (7,)}
TARGET = 60.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", required=True, help="of digits/smca_single_scale")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument(
        "--parts",
        nargs="+",
        choices=["steps", "subset", "small"],
        default=["steps", "subset", "small"],
    )
    parser.add_argument("--output", default=str(ROOT / "benchmarks/results/fine_tuning.json"))
    args = parser.parse_args()
    report = surroundings()
    output = Path(args.output)
    if output.is_file():  # parts can be run one by one
        report = json.loads(output.read_text()) | report
    ensure_digits("digits_train", "digits_val")
    parts = {"steps": steps_to_target, "subset": subset_by_name, "small": small_data}
    with tempfile.TemporaryDirectory() as folder:
        for name in args.parts:
            report[name] = parts[name](Path(folder), args)
            output.write_text(json.dumps(report, indent=1) + "\n")


def steps_to_target(folder: Path, args: argparse.Namespace) -> dict:
    names = derive(folder, "shapes", SHAPES)
    start = [f"train.init_checkpoint={args.checkpoint}"]
    tuned = train(folder, TUNE, names, [*start, "train.max_iter=300"], period=25, stop_at=TARGET)
    scratch = train(folder, SCRATCH, names, ["train.max_iter=2000"], period=50, stop_at=TARGET)
    first = {kind: first_above(curve) for kind, curve in (("tuned", tuned), ("scratch", scratch))}
    print(
        f"steps until AP50 {TARGET:.0f}: {first['tuned']} from the checkpoint, {first['scratch']} from scratch",
        flush=True,
    )
    return {"first_step_above": first, "curves": {"tuned": tuned, "scratch": scratch}}


def subset_by_name(folder: Path, args: argparse.Namespace) -> dict:
    names = derive(folder, "subset", SUBSET)
    start = [f"train.init_checkpoint={args.checkpoint}"]
    cfg = configure(folder, TUNE, names, start)
    before = evaluate_only(RunInputs(cfg, training=False), resume=False)["bbox"]
    curve = train(folder, TUNE, names, [*start, "train.max_iter=300"], period=300)
    final = curve[-1]
    print(
        f"1, 3, 7 by name: AP {before['AP']:.1f} before the first step, {final['AP']:.1f} after {final['step']}",
        flush=True,
    )
    return {"before": {k: before[k] for k in ("AP", "AP50")}, "final": final}


def small_data(folder: Path, args: argparse.Namespace) -> list[dict]:
    names = derive(folder, "small", SHAPES, train_images=200)
    start = [f"train.init_checkpoint={args.checkpoint}"]
    arms = {
        "default recipe, from scratch": (SCRATCH, []),
        "default recipe, from the checkpoint": (SCRATCH, start),
        "default rates for 40 epochs, from the checkpoint": (
            SCRATCH,
            [*start, "train.epochs=40", "lr_multiplier.drop_epochs=[32]"],
        ),
        "small-data recipe, 40 epochs, from the checkpoint": (TUNE, start),
    }
    runs = []
    for arm, (config, overrides) in arms.items():
        for seed in args.seeds:
            final = train(folder, config, names, [*overrides, f"train.seed={seed}"], period=0)[-1]
            runs.append({"arm": arm, "seed": seed, **final})
            print(f"200 images, {arm}, seed {seed}: {final}", flush=True)
    return runs


def derive(
    folder: Path, name: str, classes: dict[str, tuple[int, ...]], train_images: int | None = None
) -> tuple[str, str]:
    """Register the digits under other classes, ids with gaps; digits of no class are left out."""
    registered = []
    for split in ("train", "val"):
        digits = MetadataCatalog.get(f"digits_{split}")
        content = json.loads(Path(digits.json_file).read_text())
        if split == "train" and train_images is not None:
            content["images"] = content["images"][:train_images]
        images = {image["id"] for image in content["images"]}
        category = {
            digit + 1: 10 * index + 5
            for index, members in enumerate(classes.values())
            for digit in members
        }
        content["annotations"] = [
            {**a, "category_id": category[a["category_id"]]}
            for a in content["annotations"]
            if a["category_id"] in category and a["image_id"] in images
        ]
        content["categories"] = [{"id": 10 * i + 5, "name": n} for i, n in enumerate(classes)]
        path = folder / f"{name}_{split}.json"
        path.write_text(json.dumps(content))
        full_name = f"{name}_{split}"
        if full_name not in DatasetCatalog:
            register_coco_instances(full_name, {}, str(path), digits.image_root)
        registered.append(full_name)
    return tuple(registered)


def configure(folder: Path, config: str, names: tuple[str, str], overrides: list[str]):
    cfg = model_zoo.get_config(config)
    # Registered data sets, where the recipe for data of one's own names files.
    cfg.dataloader = model_zoo.get_config(SCRATCH).dataloader
    return apply_overrides(
        cfg,
        [
            f"dataloader.train.dataset.names={names[0]}",
            f"dataloader.test.dataset.names={names[1]}",
            "model.num_classes=null",
            f"train.output_dir={tempfile.mkdtemp(dir=folder)}",
            f"train.checkpointer.period={10**9}",
            *overrides,
        ],
    )


class Reached(Exception):  # noqa: N818 - it is no error
    """The accuracy that was asked for."""


def train(
    folder: Path,
    config: str,
    names: tuple[str, str],
    overrides: list[str],
    *,
    period: int,
    stop_at: float = 101.0,
) -> list[dict]:
    """AP over steps; averaged weights where the recipe has them. Ends early at ``stop_at`` AP50."""
    cfg = configure(folder, config, names, [*overrides, f"train.evaluation.period={period}"])
    trainer, first, last = prepare_training(RunInputs(cfg, training=True), resume=False)
    prefix = "bbox_ema" if cfg.train.ema.enabled else "bbox"
    curve: list[dict] = []
    after_step = trainer.after_step

    def watch() -> None:
        after_step()
        latest = trainer.storage.latest()
        if f"{prefix}/AP" in latest and latest[f"{prefix}/AP"][1] == trainer.iter:
            point = {k: round(latest[f"{prefix}/{k}"][0], 2) for k in ("AP", "AP50")}
            curve.append({"step": trainer.iter + 1, **point})
            if point["AP50"] >= stop_at:
                raise Reached

    trainer.after_step = watch
    with contextlib.suppress(Reached):
        trainer.train(first, last)
    return curve


def first_above(curve: list[dict]) -> int | None:
    return next((point["step"] for point in curve if point["AP50"] >= TARGET), None)


if __name__ == "__main__":
    main()
