"""The pages of smca-attention and smca-report of numbers that are the same on every machine."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from PIL import Image, ImageDraw

from smca.attention_view import LayerView, QueryView, Seen
from smca.attention_view.models import NamedModel
from smca.attention_view.page import SeenImage, write_attention_page
from smca.attention_view.survey import looked_at, summarize
from smca.report import ReportedRun, write_report
from smca.report.reported_run import curves_or_reason

from .outcomes import evaluated, random_case

_HEIGHT, _WIDTH = 96, 128
_BOXES = ((18, 20, 66, 70), (80, 40, 116, 84))


def attention_page(folder: Path) -> Path:
    """Two objects as a model with a prior, one without and one with sampling points see them, and a survey."""
    picture = Image.new("RGB", (_WIDTH, _HEIGHT), (70, 90, 110))
    for box, color in zip(_BOXES, ((190, 160, 90), (90, 170, 130)), strict=True):
        ImageDraw.Draw(picture).rectangle(box, fill=color)
    kinds = {"SMCA": _modulated, "DETR": _free, "Deformable DETR": _sampled}
    predictor = SimpleNamespace(class_names=("cat", "dog"))
    models = [NamedModel(name, f"This is {name}.", predictor) for name in kinds]
    objects = [
        [Seen(view_of(np.array(box, float)), 0.9 - 0.1 * k, k, 1.0) for view_of in kinds.values()]
        for k, box in enumerate(_BOXES)
    ]
    found = [(name, [looked_at(seen[m].view) for seen in objects]) for m, name in enumerate(kinds)]
    path = folder / "attention.html"
    figures = {"images": 1, "threshold": 0.3, "models": summarize(found)}
    write_attention_page(path, [SeenImage("a.png", picture, objects)], models, figures)
    return path


def report_page(folder: Path) -> Path:
    """Two runs with curves, errors, worst images and pictures of attention."""
    runs = []
    for seed, name in ((1, "first"), (2, "second")):
        lines = [
            {
                "iteration": 10 * k + 9,
                "epoch": k + 1.0,
                "bbox/AP": 9.0 * k + seed,
                "total_loss": 9.0 - k,
            }
            for k in range(4)
        ]
        metrics = folder / f"{name}.json"
        metrics.write_text("".join(json.dumps(line) + "\n" for line in lines))
        curves, missing = curves_or_reason(metrics)
        names = ("ant", "bee", "cow")
        outcome = evaluated(folder, *random_case(seed), names=names, images=6, with_files=True)
        facts = (("checkpoint", f"{name}.pth"), ("data", "drawn"))
        runs.append(
            ReportedRun(
                name, facts, curves, outcome, missing, lambda *_: np.zeros((60, 100, 3), np.uint8)
            )
        )
    path = folder / "report.html"
    write_report(path, runs, threshold=0.4, images=2)
    return path


def _modulated(box: np.ndarray) -> QueryView:
    """Two layers, two scales, two heads whose ellipses are on the object."""
    sizes, strides = ((6, 8), (3, 4)), (16, 32)
    center, side = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2
    layers = []
    for number in (1, 2):
        centers = center + np.array([[[-8, 3], [7, -4]], [[-3, -6], [5, 5]]]) / number
        half = np.stack([side * 0.8, side * 0.5])[None].repeat(2, 0)
        priors = [_bump(size, centers[s], half[s], strides[s]) for s, size in enumerate(sizes)]
        before = [np.full((2, h, w), 1 / (h * w)) for h, w in sizes]
        after = [prior / prior.sum((1, 2), keepdims=True) for prior in priors]
        layers.append(
            LayerView(box, center, centers, half, priors, before, after, np.array([0.7, 0.3]))
        )
    return QueryView(3, (_HEIGHT, _WIDTH), strides, 0.5, layers, ())


def _free(box: np.ndarray) -> QueryView:
    """Two layers, attention of two heads somewhere else than on the object."""
    maps = _bump((6, 8), np.array([[110.0, 12.0], [20.0, 84.0]]), np.full((2, 2), 24.0), 16)
    maps /= maps.sum((1, 2), keepdims=True)
    layer = LayerView(box, before=[maps], after=[maps])
    return QueryView(5, (_HEIGHT, _WIDTH), (16,), 0.0, [layer] * 2, ())


def _sampled(box: np.ndarray) -> QueryView:
    """A single layer with two heads of three points."""
    steps = np.array([[[0.2, 0.3], [0.5, 0.6], [0.9, 1.2]], [[0.4, 0.1], [0.7, 0.7], [-0.2, 0.5]]])
    points = (box[:2] + steps * (box[2:] - box[:2]))[:, None]
    weights = np.array([[[0.5, 0.3, 0.2]], [[0.1, 0.6, 0.3]]])
    layer = LayerView(box, points=points, point_weights=weights, level_weights=np.ones(1))
    notes = ("A note says what cannot be shown.",)
    return QueryView(0, (_HEIGHT, _WIDTH), (16,), 0.5, [layer], notes)


def _bump(size: tuple[int, int], centers: np.ndarray, half: np.ndarray, stride: int) -> np.ndarray:
    """(H, h, w) with 1 at each centre and a half at its half axes."""
    places = (np.indices(size)[::-1].transpose(1, 2, 0) + 0.5) * stride
    far = ((places - centers[:, None, None]) / half[:, None, None]) ** 2
    return np.exp2(-far.sum(-1))
