#!/usr/bin/env python
"""A folder of photographs through smca-predict, files to drawn files and results, beside the model alone.

    OMP_WAIT_POLICY=PASSIVE GOMP_SPINCOUNT=3000 python benchmarks/predict_speed.py --threads 2 --clock wall --rounds 4

JPEG files of 480x640 are read, resized to 800x1066, detected in, drawn on with ten boxes each, written, and listed in
COCO results. The model alone gets the same resized images, as the command gives them to it. Start-up is not counted.
Reading, resizing and drawing are done one after the other, or by threads beside the model; the command chooses by
whether the model leaves processors free. Freed memory is kept and, with these variables, threads wait as with the
command. The last row has a stand-in for a model on a GPU, which takes 20 ms.
"""

import contextlib
import io
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from detectron2.structures import Boxes, Instances
from drawn import keep_in_range
from PIL import Image
from speed_harness import benchmark_arguments, compare, store
from torch import nn

from smca import Predictor, model_zoo
from smca.inference.command.freed_memory import keep_freed_memory
from smca.inference.command.output_names import OutputNames
from smca.inference.command.prediction_run import PredictionRun
from smca.inference.command.results_file import JsonResults
from smca.inference.fold_norms import fold_norms
from smca.inference.trained_model import limit_detections

NUM_IMAGES = 12
# So that the first and the last one, which nothing runs beside, do not count.
NUM_IMAGES_ELSEWHERE = 100
SIZE = (480, 640)
NUM_BOXES = 10
SECONDS_ELSEWHERE = 0.02
MODEL = "smca_single_scale_r50_50ep"
PRECISIONS = ("float32", "bfloat16")


def main() -> None:
    args = benchmark_arguments(__doc__, "predict_speed.json")
    settings = {"rounds": args.rounds, "clock": args.clock}
    keep_freed_memory()
    report = {}
    with tempfile.TemporaryDirectory() as folder:
        paths = photographs(Path(folder), NUM_IMAGES)
        for precision in PRECISIONS:
            predictor = Predictor(model=drawn_model(), precision=precision)
            report[f"{MODEL}, {precision}"] = measure(predictor, precision, paths, settings)
        predictor = Predictor(model=Elsewhere())
        paths = photographs(Path(folder), NUM_IMAGES_ELSEWHERE)
        report["stand-in for a GPU"] = measure(predictor, "float32", paths, settings)
    images = {"images": NUM_IMAGES, "images, stand-in": NUM_IMAGES_ELSEWHERE, "size": SIZE}
    store(args.output, {**images, "models": report}, **settings)


def photographs(folder: Path, count: int) -> list[Path]:
    """As large in bytes as photographs: smooth, with a little noise."""
    rng, paths = np.random.default_rng(0), []
    height, width = SIZE
    for index in range(count):
        coarse = rng.integers(256, size=(height // 16, width // 16, 3), dtype=np.uint8)
        smooth = np.asarray(Image.fromarray(coarse).resize((width, height), Image.BICUBIC), float)
        pixels = (smooth + rng.normal(0, 6, smooth.shape)).clip(0, 255).astype(np.uint8)
        paths.append(folder / f"{index:02}.jpg")
        Image.fromarray(pixels).save(paths[-1], quality=92)
    return paths


def drawn_model() -> nn.Module:
    torch.manual_seed(0)
    model = model_zoo.get(MODEL)
    keep_in_range(model)
    limit_detections(model, NUM_BOXES)
    fold_norms(model)
    return model.to(memory_format=torch.channels_last)


class Elsewhere(nn.Module):
    """Finds the same boxes in every image, elsewhere than on this processor."""

    def forward(self, batched_inputs: list[dict]) -> list[dict]:
        time.sleep(SECONDS_ELSEWHERE * len(batched_inputs))
        return [{"instances": self._found(item)} for item in batched_inputs]

    def _found(self, item: dict) -> Instances:
        corners = torch.arange(NUM_BOXES)[:, None] * 30.0 + torch.tensor([5.0, 5.0, 95.0, 75.0])
        found = Instances((item["height"], item["width"]), pred_boxes=Boxes(corners))
        found.scores = torch.linspace(0.9, 0.5, NUM_BOXES)
        found.pred_classes = torch.arange(NUM_BOXES)
        return found


def measure(
    predictor: Predictor, precision: str, paths: list[Path], settings: dict
) -> dict[str, dict]:
    """Times of all images, with and without what is around the model."""
    calls = {
        "model alone": model_alone(predictor, paths, precision),
        "smca-predict, one after the other": partial(predict, predictor, paths, 0),
        "smca-predict, beside the model": partial(predict, predictor, paths, 1),
    }
    print(f"{type(predictor.model).__name__}, {precision}, {len(paths)} images", flush=True)
    return compare(calls, baseline="model alone", warm_up=1, **settings)


def model_alone(predictor: Predictor, paths: list[Path], precision: str) -> Callable[[], None]:
    inputs = [predictor.batched_input(path) for path in paths]

    @torch.no_grad()
    def call() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            for image in inputs:
                predictor.model([image])

    return call


def predict(predictor: Predictor, paths: list[Path], ahead: int) -> None:
    """The command after its start, with ``--output`` and ``--json``."""
    predictor.ahead = ahead
    folder = paths[0].parent
    names = OutputNames(folder=folder / "found", inputs=paths)
    # Its progress bar.
    with (
        contextlib.redirect_stderr(io.StringIO()),
        JsonResults(folder / "results.json", None, ()) as results,
    ):
        PredictionRun(predictor=predictor, results=[results], names=names).predict_files(paths)


if __name__ == "__main__":
    main()
