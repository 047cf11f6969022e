#!/usr/bin/env python
"""PyTorch beside onnxruntime: size and difference of exported files, and ratios of times measured in turns.

    python benchmarks/export_latency.py
    python benchmarks/export_latency.py --models smca_r50_50ep --repeat 3 --output r50.json

Each model is exported and compared with its file, also in the detections of a padded batch of three images. Then one
image of its test size goes through both, from pixels to logits and boxes, in one process and with as many threads.
Weights are drawn: times do not depend on them. PyTorch's model has its norms folded and its weights in the layout of
``Predictor``. Milliseconds are those of the fastest round, ratios the median over the rounds.
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import torch
from surroundings import surroundings
from torch import nn

from smca import model_zoo
from smca.analysis.latency import measure_in_turns, ratio_of_rounds
from smca.checkpoint import model_info_from_lazy
from smca.export import PRECISIONS, export_model
from smca.export.comparison import pad
from smca.export.onnx_file import Session, import_onnx
from smca.inference.fold_norms import fold_norms
from smca.whole_file import replacing

MODELS = {
    # Height and width of the image.
    "digits/smca_single_scale": (128, 128),
    "digits/smca": (128, 128),
    "digits/smca_plus": (128, 128),
    "digits/detr": (128, 128),
    "digits/deformable_detr": (128, 128),
    "digits/deformable_detr_two_stage": (128, 128),
    "smca_single_scale_r50_50ep": (480, 640),
    "smca_r50_50ep": (480, 640),
}
BATCH = [(90, 61), (40, 101), (77, 77)]
DETECTIONS = 20
DEFAULT = [name for name in MODELS if name.startswith("digits/")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=DEFAULT)
    parser.add_argument("--precision", choices=PRECISIONS, default="float32")
    parser.add_argument("--repeat", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", default="benchmarks/results/export_latency.json")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    report = {**surroundings(), "repeat": args.repeat, "precision": args.precision, "models": {}}
    report["versions"]["onnxruntime"] = import_onnx()[1].__version__
    for name in args.models:
        row = measure(name, args.precision, args.repeat, args.threads)
        report["models"][name] = row
        print(name, json.dumps(row), flush=True)
        with replacing(args.output) as file:
            file.write_text(json.dumps(report, indent=1) + "\n")


def measure(name: str, precision: str, repeat: int, threads: int) -> dict[str, object]:
    model = drawn_model(name)
    height, width = MODELS[name]
    with tempfile.TemporaryDirectory() as folder:
        info = model_info_from_lazy(model_zoo.get_config(name))
        exported = export_model(
            model,
            info,
            Path(folder) / "model.onnx",
            precision=precision,
            detections=DETECTIONS,
        )
        session = Session(exported.path, threads=threads)
    different = different_detections(model, session)
    fold_norms(model)
    model.to(memory_format=torch.channels_last)
    image = np.random.default_rng(0).integers(256, size=(1, 3, height, width)).astype(np.float32)
    sizes = np.array([[height, width]])
    inputs = [{"image": torch.from_numpy(image[0])}]

    @torch.inference_mode()
    def in_pytorch() -> object:
        images = model.preprocess_images(inputs)
        return model.run_network(images, isolate=model.isolate_images, last_layer_only=True)

    seconds = measure_in_turns(
        {"PyTorch": in_pytorch, "onnxruntime": lambda: session(image, sizes)}, repeat=repeat
    )
    return {
        "image": [height, width],
        "file MB": round(exported.size / 1e6, 2),
        "parameters MB": round(sum(p.numel() for p in model.parameters()) * 4e-6, 2),
        **{f"largest difference of {item.output}": item.largest for item in exported.differences},
        f"different detections of {DETECTIONS * len(BATCH)}": different,
        **{f"ms, {k}": round(1000 * min(v), 2) for k, v in seconds.items()},
        "time onnxruntime / PyTorch": round(
            ratio_of_rounds(seconds["onnxruntime"], seconds["PyTorch"]), 3
        ),
    }


@torch.no_grad()
def different_detections(model: nn.Module, session: Session) -> int:
    """Detections of PyTorch, each image alone, that the file does not give of the padded batch: one of the same class,
    1e-4 in its score and a hundredth of a pixel in its box."""
    generator = torch.Generator().manual_seed(1)
    images = [torch.randint(256, (3, *size), generator=generator).float() for size in BATCH]
    outputs = session(pad(images).numpy(), np.array(BATCH))
    model.postprocessor.max_detections = DETECTIONS
    missing = 0
    for index, image in enumerate(images):
        raw = {key: value[-1] for key, value in model.raw_outputs([{"image": image}]).items()}
        (wanted,) = model.postprocessor(raw, [BATCH[index]])
        boxes = outputs["pixel_boxes"][index]
        for score, number, box in zip(
            wanted.scores, wanted.pred_classes, wanted.pred_boxes.tensor, strict=True
        ):
            same = outputs["classes"][index] == int(number)
            same &= np.abs(outputs["scores"][index] - float(score)) < 1e-4
            same &= (np.abs(boxes - box.numpy()) < 0.01).all(1)
            missing += not same.any()
    return missing


def drawn_model(name: str) -> nn.Module:
    """With outputs that depend on the image, unlike those of a fresh one."""
    torch.manual_seed(0)
    model = model_zoo.get(name).eval()
    for part in model.modules():
        if isinstance(part, nn.Linear) and not part.weight.any():
            nn.init.xavier_normal_(part.weight)
    nn.init.normal_(_first(model.heads.classifier).weight, std=0.1)
    return model


def _first(module: nn.Module) -> nn.Module:
    return module[0] if isinstance(module, nn.ModuleList) else module


if __name__ == "__main__":
    main()
