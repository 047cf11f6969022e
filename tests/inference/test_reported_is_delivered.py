"""The AP that an evaluation reports is the AP of what users get for the same images."""

import contextlib
import io
import json

import cv2
import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.engine import DefaultPredictor
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from helpers.checkpoints import zoo_checkpoint
from helpers.odd_images import picture
from smca import Predictor, model_zoo
from smca.engine import RunInputs
from smca.inference.command import main as command
from smca.inference.trained_model import load_checkpoint
from smca_predict import parse_arguments

NAME = "digits/smca_single_scale"
# No size is twice in a batch, and few are multiples of the stride.
SIZES = [(128, 128), (100, 128), (60, 125), (97, 33), (128, 96), (121, 128), (71, 71), (33, 128)]
TOLERANCE = 0.01


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return str(zoo_checkpoint(tmp_path_factory.mktemp("weights") / "drawn.pth", NAME))


@pytest.fixture(scope="module")
def dataset(weights, tmp_path_factory):
    """Images whose objects are what the model finds in them, a little displaced: (folder, json)."""
    root = tmp_path_factory.mktemp("found")
    predictor = Predictor.from_checkpoint(weights, device="cpu")
    rng = np.random.default_rng(0)
    images, annotations = [], []
    for number, (height, width) in enumerate(SIZES):
        image = {"id": 10 + number, "file_name": f"{number}.png", "height": height, "width": width}
        images.append(image)
        Image.fromarray(picture(height, width)).save(root / image["file_name"])
        found = predictor(str(root / image["file_name"]))
        for index in range(0, 12, 2):
            x1, y1, x2, y2 = found.pred_boxes.tensor[index].tolist()
            w, h = np.array([x2 - x1, y2 - y1]) * rng.uniform(0.8, 1.2, 2)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image["id"],
                    "category_id": int(found.pred_classes[index]) + 1,
                    "bbox": [x1, y1, w, h],
                    "area": w * h,
                    "iscrowd": 0,
                }
            )
    categories = [{"id": i + 1, "name": str(i)} for i in range(10)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (root / "truth.json").write_text(json.dumps(content))
    register_coco_instances("what_is_found", {}, str(root / "truth.json"), str(root))
    yield root, root / "truth.json"
    DatasetCatalog.remove("what_is_found")
    MetadataCatalog.remove("what_is_found")


@pytest.fixture(scope="module")
def reported(weights, dataset):
    """By the evaluation of a training, in batches of images of several sizes."""
    cfg = model_zoo.get_config(NAME)
    cfg.dataloader.test.dataset.names = "what_is_found"
    cfg.dataloader.test.num_workers = 0
    assert cfg.dataloader.test.batch_size > 1
    model, _ = load_checkpoint(weights)
    ap = RunInputs(cfg, training=False).evaluate(model)["bbox"]["AP"]
    # Neither nothing nor everything, so that other boxes give another number.
    assert 10 < ap < 95
    return ap


def average_precision(truth, entries):
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(truth))
        evaluation = COCOeval(coco, coco.loadRes(entries), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return 100 * evaluation.stats[0]


def entries_of(found, image_id):
    boxes = found.pred_boxes.tensor.numpy()
    return [
        {
            "image_id": image_id,
            "category_id": int(class_id) + 1,
            "bbox": [*map(float, box[:2]), *map(float, box[2:] - box[:2])],
            "score": float(score),
        }
        for box, class_id, score in zip(boxes, found.pred_classes, found.scores, strict=True)
    ]


def test_by_the_command(weights, dataset, reported, tmp_path):
    root, truth = dataset
    paths = [str(root / f"{number}.png") for number in range(len(SIZES))]
    options = ["--weights", weights, "--device", "cpu", "--threshold", "0"]
    written = ["--json", str(tmp_path / "found.json"), "--coco-json", str(truth)]

    assert command.run(parse_arguments([*options, *written, *paths])) == 0

    ap = average_precision(truth, json.loads((tmp_path / "found.json").read_text()))
    assert ap == pytest.approx(reported, abs=TOLERANCE)


def test_by_the_predictor(weights, dataset, reported):
    root, truth = dataset
    predictor = Predictor.from_checkpoint(weights, device="cpu")
    found = predictor([root / f"{number}.png" for number in range(len(SIZES))])
    entries = [e for i, instances in enumerate(found) for e in entries_of(instances, 10 + i)]

    assert average_precision(truth, entries) == pytest.approx(reported, abs=TOLERANCE)


def test_by_detectron2s_predictor(weights, dataset, reported):
    root, truth = dataset
    cfg = model_zoo.get_cfg(NAME, weights)
    cfg.MODEL.DEVICE = "cpu"
    predictor = DefaultPredictor(cfg)
    entries = []
    for number in range(len(SIZES)):
        found = predictor(cv2.imread(str(root / f"{number}.png")))["instances"]
        entries += entries_of(found.to("cpu"), 10 + number)

    assert average_precision(truth, entries) == pytest.approx(reported, abs=TOLERANCE)


def test_in_batches_of_any_size(weights, dataset, reported):
    cfg = model_zoo.get_config(NAME)
    cfg.dataloader.test.dataset.names = "what_is_found"
    cfg.dataloader.test.num_workers = 0
    cfg.dataloader.test.batch_size = 1
    model, _ = load_checkpoint(weights)

    assert RunInputs(cfg, training=False).evaluate(model)["bbox"]["AP"] == pytest.approx(
        reported, abs=TOLERANCE
    )

    # And without the isolation the number would be another one.
    cfg.dataloader.test.batch_size = len(SIZES)
    model.isolate_images = False
    assert (
        abs(RunInputs(cfg, training=False).evaluate(model)["bbox"]["AP"] - reported)
        > 100 * TOLERANCE
    )
