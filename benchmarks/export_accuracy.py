#!/usr/bin/env python
"""What fewer bits cost: AP of a checkpoint in PyTorch and of its exported files, with their sizes and times.

    python benchmarks/export_accuracy.py --weights output/demo/model_final.pth

Files are predicted with by ``smca_runtime``, image by image; the checkpoint by ``smca.Predictor``. AP in percent, by
pycocotools' rules; times are of a whole prediction with reading, in turns over some of the images.
"""

import argparse
import contextlib
import io
import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from pycocotools.coco import COCO
from surroundings import surroundings

import smca_runtime
from smca import Predictor
from smca.analysis.latency import measure_in_turns, ratio_of_rounds
from smca.evaluation.coco_backend import resolve_backend
from smca.export import PRECISIONS, export_model
from smca.export.command import load
from smca.export.onnx_file import import_onnx
from smca.whole_file import replacing

Find = Callable[[str], tuple[list, list, list]]
"""A file -> boxes (x1, y1, x2, y2), scores, classes."""

TIMED_IMAGES = 20
_NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", required=True)
    parser.add_argument("--config-file")
    parser.add_argument("--annotations", default="datasets/digits/annotations/digits_val.json")
    parser.add_argument("--images", default="datasets/digits/val")
    parser.add_argument("--repeat", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", default="benchmarks/results/export_accuracy.json")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    report = {**surroundings(), "repeat": args.repeat, "rows": {}}
    report["versions"]["onnxruntime"] = import_onnx()[1].__version__
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(args.annotations)
    with tempfile.TemporaryDirectory() as folder:
        ways = dict(make_ways(args, Path(folder), report["rows"]))
        paths = {i: f"{args.images}/{item['file_name']}" for i, item in truth.imgs.items()}
        for name, find in ways.items():
            report["rows"][name].update(evaluate(truth, paths, find))
            print(name, json.dumps(report["rows"][name]), flush=True)
        timed = list(paths.values())[:TIMED_IMAGES]
        calls = {
            name: lambda find=find: [find(path) for path in timed] for name, find in ways.items()
        }
        seconds = measure_in_turns(calls, repeat=args.repeat)
    for name, row in report["rows"].items():
        row["ms per image"] = round(1000 * min(seconds[name]) / len(timed), 2)
        row["time / PyTorch"] = round(ratio_of_rounds(seconds[name], seconds["PyTorch"]), 3)
    with replacing(args.output) as file:
        file.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report["rows"], indent=1))


def make_ways(
    args: argparse.Namespace, folder: Path, rows: dict[str, dict]
) -> Iterator[tuple[str, Find]]:
    """Ways to predict, by name; each gets a row."""
    options = {"device": "cpu"}
    if args.config_file:
        predictor = Predictor.from_config(args.config_file, args.weights, **options)
    else:
        predictor = Predictor.from_checkpoint(args.weights, **options)
    rows["PyTorch"] = {}
    yield "PyTorch", lambda path: of_instances(predictor(path))
    for precision in PRECISIONS:
        exported = export_model(
            *load(args.weights, args.config_file),
            folder / f"{precision}.onnx",
            precision=precision,
        )
        rows[f"ONNX {precision}"] = {
            "file MB": round(exported.size / 1e6, 2),
            **{f"mean difference of {d.output}": d.mean for d in exported.differences},
        }
        runtime = smca_runtime.Predictor(exported.path, threads=args.threads)
        yield f"ONNX {precision}", lambda path, run=runtime: of_detections(run(path))


def of_instances(found) -> tuple[list, list, list]:
    boxes = found.pred_boxes.tensor.tolist()
    return boxes, found.scores.tolist(), found.pred_classes.tolist()


def of_detections(found: smca_runtime.Detections) -> tuple[list, list, list]:
    return found.boxes.tolist(), found.scores.tolist(), found.classes.tolist()


def evaluate(truth: COCO, paths: dict[int, str], find: Find) -> dict[str, float]:
    categories = sorted(truth.cats)
    results = [
        {
            "image_id": image,
            "category_id": categories[number],
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "score": score,
        }
        for image, path in paths.items()
        for (x1, y1, x2, y2), score, number in zip(*find(path), strict=True)
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        evaluator = resolve_backend()[1](truth, truth.loadRes(results), "bbox")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return {
        name: round(100 * value, 3) for name, value in zip(_NAMES, evaluator.stats, strict=False)
    }


if __name__ == "__main__":
    main()
