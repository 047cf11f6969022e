import contextlib
import copy
import io
import json
import math
import uuid
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.evaluation import COCOEvaluator
from detectron2.evaluation.coco_evaluation import COCOevalMaxDets
from detectron2.structures import Boxes, Instances
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from smca.errors import InputError
from smca.evaluation import CocoEvaluator
from smca.evaluation.coco_backend import BACKENDS, resolve_backend

TWELVE = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"]
CATEGORIES = {2: "cat", 5: "dog", 9: "emu", 11: "never there"}
IMAGES = (3, 7, 20, 21, 50)
"""Ids with gaps; the last image has no annotation."""
SIDES = {"small": (8, 30), "medium": (34, 90), "large": (100, 240)}


def _usable(backend):
    try:
        resolve_backend(backend)
    except InputError:
        return pytest.param(backend, marks=pytest.mark.skip(reason="not usable here"))
    return backend


EACH_BACKEND = pytest.mark.parametrize("backend", [_usable(b) for b in BACKENDS])


def make_ground_truth(seed, sizes=tuple(SIDES), per_image=7):
    """COCO json with crowds, gaps between ids and areas below those of the boxes."""
    rng = np.random.RandomState(seed)
    annotations = []
    for image_id in IMAGES[:-1]:
        for _ in range(rng.randint(1, per_image + 1)):
            w, h = np.round(rng.uniform(*SIDES[sizes[rng.randint(len(sizes))]], size=2))
            x, y = np.round(rng.uniform(0, 150, size=2))
            annotations.append(
                {
                    "id": 5 + 3 * len(annotations),
                    "image_id": image_id,
                    "category_id": int(rng.choice([2, 5, 9])),
                    "bbox": [x, y, w, h],
                    "area": w * h * 0.9,
                    "iscrowd": int(rng.rand() < 0.15),
                }
            )
    return {
        "images": [{"id": i, "height": 400, "width": 400, "file_name": f"{i}.png"} for i in IMAGES],
        "annotations": annotations,
        # Not in the order of the ids, which is the order that the evaluation works in.
        "categories": [{"id": i, "name": CATEGORIES[i]} for i in (9, 2, 11, 5)],
    }


def make_detections(ground_truth, seed, repeats=2):
    """COCO results near the ground truth, with wrong classes, ties in score and false boxes.

    Coordinates are multiples of 1/4, exact in float32 too.
    """
    rng = np.random.RandomState(seed)
    detections = []

    def add(image_id, category_id, box):
        box = np.round(np.array(box) * 4) / 4
        detections.append(
            {
                "image_id": image_id,
                "category_id": category_id,
                "bbox": [*box[:2].tolist(), *np.maximum(box[2:], 1).tolist()],
                "score": rng.randint(1, 65) / 64,
            }
        )

    for a in ground_truth["annotations"]:
        for _ in range(rng.randint(repeats + 1)):
            box = np.array(a["bbox"])
            box[:2] += rng.randn(2) * 0.06 * box[2:]
            box[2:] *= np.exp(rng.randn(2) * 0.06)
            wrong = rng.rand() < 0.1
            add(
                a["image_id"], int(rng.choice(list(CATEGORIES))) if wrong else a["category_id"], box
            )
    for _ in range(12):
        where = int(rng.choice(IMAGES))
        add(where, int(rng.choice(list(CATEGORIES))), rng.uniform(1, 150, size=4))
    return detections


def reference(ground_truth, detections, cat_ids=None, cls=COCOeval, max_dets=None):
    """pycocotools on its own, as its demo uses it. Fractions, -1 for what is absent."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = copy.deepcopy(ground_truth)
        truth.createIndex()
        evaluation = cls(truth, truth.loadRes(copy.deepcopy(detections)), "bbox")
        if cat_ids:
            evaluation.params.catIds = cat_ids
        if max_dets:
            evaluation.params.maxDets = [1, 10, max_dets]
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [100 * v if v >= 0 else math.nan for v in evaluation.stats]


@pytest.fixture
def register(tmp_path):
    """Registers a COCO dict under a name of its own."""
    names = []

    def _register(ground_truth):
        names.append(f"evaluation_{uuid.uuid4().hex}")
        json_file = tmp_path / f"{names[-1]}.json"
        json_file.write_text(
            ground_truth if isinstance(ground_truth, str) else json.dumps(ground_truth)
        )
        register_coco_instances(names[-1], {}, str(json_file), str(tmp_path))
        return names[-1]

    _register.names = names
    yield _register
    for name in names:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def feed(evaluator, detections, contiguous=None, images=IMAGES):
    contiguous = contiguous or {c: i for i, c in enumerate(sorted(CATEGORIES))}
    evaluator.reset()
    for image_id in images:
        mine = [d for d in detections if d["image_id"] == image_id]
        boxes = torch.tensor([d["bbox"] for d in mine], dtype=torch.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        instances = Instances((400, 400))
        instances.pred_boxes = Boxes(boxes)
        instances.scores = torch.tensor([d["score"] for d in mine])
        instances.pred_classes = torch.tensor(
            [contiguous[d["category_id"]] for d in mine], dtype=torch.int64
        )
        evaluator.process([{"image_id": image_id}], [{"instances": instances}])


def evaluate(name, detections, **kwargs):
    evaluator = CocoEvaluator(name, **kwargs)
    feed(evaluator, detections)
    return evaluator.evaluate()["bbox"]


def assert_same(actual, expected):
    assert actual == pytest.approx(expected, rel=0, abs=1e-11, nan_ok=True)


@EACH_BACKEND
@pytest.mark.parametrize("seed", range(4))
def test_twelve_numbers_and_per_class_ap_are_those_of_pycocotools(register, backend, seed):
    truth = make_ground_truth(seed)
    detections = make_detections(truth, seed)
    result = evaluate(register(truth), detections, backend=backend)
    expected = reference(truth, detections)
    assert 10 < expected[0] < 90
    assert list(result)[:12] == TWELVE
    assert_same([result[k] for k in TWELVE], expected)
    per_class = [result[f"AP-{name}"] for name in CATEGORIES.values()]
    assert_same(per_class, [reference(truth, detections, [c])[0] for c in CATEGORIES])
    assert math.isnan(per_class[-1])
    assert len({round(v, 6) for v in per_class[:-1]}) == 3
    assert list(result)[12:] == [f"AP-{name}" for name in CATEGORIES.values()]


@EACH_BACKEND
def test_more_than_a_hundred_detections_in_an_image(register, backend):
    truth = make_ground_truth(11)
    detections = make_detections(truth, 11, repeats=60)
    assert max(sum(d["image_id"] == i for d in detections) for i in IMAGES) > 100
    name = register(truth)
    result = evaluate(name, detections, backend=backend)
    assert_same([result[k] for k in TWELVE], reference(truth, detections))
    wider = evaluate(name, detections, backend=backend, max_dets_per_image=300)
    expected = reference(truth, detections, cls=COCOevalMaxDets, max_dets=300)
    assert_same([wider[k] for k in [*TWELVE[:8], "AR300", *TWELVE[9:]]], expected)


@EACH_BACKEND
def test_sizes_without_ground_truth_are_nan(register, backend):
    truth = make_ground_truth(5, sizes=("medium",))
    detections = make_detections(truth, 5)
    result = evaluate(register(truth), detections, backend=backend)
    absent = [k for k in TWELVE if math.isnan(result[k])]
    assert absent == ["APs", "APl", "ARs", "ARl"]
    assert_same([result[k] for k in TWELVE], reference(truth, detections))


@EACH_BACKEND
@pytest.mark.parametrize("images", [IMAGES, ()], ids=["empty outputs", "no image processed"])
def test_without_predictions_ap_is_zero(register, backend, images):
    evaluator = CocoEvaluator(register(make_ground_truth(1, ("small", "large"))), backend=backend)
    feed(evaluator, [], images=images)
    result = evaluator.evaluate()["bbox"]
    assert {k: result[k] for k in TWELVE if k not in ("APm", "ARm")} == dict.fromkeys(
        (k for k in TWELVE if k not in ("APm", "ARm")), 0.0
    )
    assert math.isnan(result["APm"])
    assert result["AP-dog"] == 0
    assert math.isnan(result["AP-never there"])


def test_evaluation_on_some_images(register):
    truth = make_ground_truth(2)
    detections = make_detections(truth, 2)
    evaluator = CocoEvaluator(register(truth))
    feed(evaluator, detections)
    chosen = [3, 20]
    part = {**truth, "annotations": [a for a in truth["annotations"] if a["image_id"] in chosen]}
    expected = reference(part, [d for d in detections if d["image_id"] in chosen])
    result = evaluator.evaluate(img_ids=chosen)["bbox"]
    assert_same([result[k] for k in TWELVE], expected)


def test_a_second_evaluation_gives_the_same(register, tmp_path):
    truth = make_ground_truth(3)
    detections = make_detections(truth, 3)
    evaluator = CocoEvaluator(register(truth), str(tmp_path / "out"))
    feed(evaluator, detections)
    first, second = evaluator.evaluate()["bbox"], evaluator.evaluate()["bbox"]
    assert_same(list(second.values()), list(first.values()))
    feed(evaluator, [])
    assert evaluator.evaluate()["bbox"]["AP"] == 0


def test_predictions_are_left_in_coco_format(register, tmp_path):
    truth = make_ground_truth(4)
    detections = make_detections(truth, 4)
    evaluate(register(truth), detections, output_dir=str(tmp_path / "out"))
    written = json.loads((tmp_path / "out" / "coco_instances_results.json").read_text())
    order = {image_id: rank for rank, image_id in enumerate(IMAGES)}
    assert written == sorted(detections, key=lambda d: order[d["image_id"]])
    assert not list((tmp_path / "out").glob("*.tmp"))


@EACH_BACKEND
def test_annotations_without_area_and_iscrowd(register, backend):
    truth = make_ground_truth(6)
    for a in truth["annotations"]:
        a.update(iscrowd=0, area=a["bbox"][2] * a["bbox"][3])
    bare = copy.deepcopy(truth)
    for a in bare["annotations"]:
        del a["iscrowd"], a["area"]
    detections = make_detections(truth, 6)
    result = evaluate(register(bare), detections, backend=backend)
    assert_same([result[k] for k in TWELVE], reference(truth, detections))


def test_one_class_has_its_ap_too(register):
    truth = make_ground_truth(7)
    truth["categories"] = [{"id": 2, "name": "cat"}]
    truth["annotations"] = [{**a, "category_id": 2} for a in truth["annotations"]]
    detections = [{**d, "category_id": 2} for d in make_detections(truth, 7)]
    result = evaluate(register(truth), detections)
    assert result["AP-cat"] == pytest.approx(result["AP"])


def test_names_follow_the_metadata_even_if_its_order_is_another(register):
    truth = make_ground_truth(8)
    detections = make_detections(truth, 8)
    expected = evaluate(register(truth), detections)
    name = f"evaluation_{uuid.uuid4().hex}"
    contiguous = {11: 0, 9: 1, 2: 2, 5: 3}
    DatasetCatalog.register(name, lambda: [])
    MetadataCatalog.get(name).set(
        json_file=MetadataCatalog.get(register.names[0]).json_file,
        thing_classes=[CATEGORIES[c] for c in contiguous],
        thing_dataset_id_to_contiguous_id=contiguous,
    )
    register.names.append(name)
    evaluator = CocoEvaluator(name)
    feed(evaluator, detections, contiguous)
    result = evaluator.evaluate()["bbox"]
    assert_same([result[k] for k in expected], list(expected.values()))


def test_data_set_that_makes_its_own_files_is_made(register, tmp_path):
    truth = make_ground_truth(9)
    name = f"evaluation_{uuid.uuid4().hex}"
    json_file = tmp_path / "made" / "later.json"

    def make():
        json_file.parent.mkdir()
        json_file.write_text(json.dumps(truth))
        return []

    DatasetCatalog.register(name, make)
    register.names.append(name)
    MetadataCatalog.get(name).set(
        json_file=str(json_file),
        thing_dataset_id_to_contiguous_id={c: i for i, c in enumerate(CATEGORIES)},
    )
    detections = make_detections(truth, 9)
    assert_same(evaluate(name, detections)["AP"], reference(truth, detections)[0])


def test_file_without_annotations_gives_no_numbers(register, tmp_path):
    truth = make_ground_truth(10)
    detections = make_detections(truth, 10)
    del truth["annotations"]
    name = register(truth)
    MetadataCatalog.get(name).set(
        thing_dataset_id_to_contiguous_id={c: i for i, c in enumerate(CATEGORIES)}
    )
    evaluator = CocoEvaluator(name, str(tmp_path / "out"))
    feed(evaluator, detections)
    assert evaluator.evaluate() == {}
    assert (tmp_path / "out" / "coco_instances_results.json").exists()


def test_predictions_of_all_ranks_are_collected(register, monkeypatch):
    """One process: what Detectron2's gather would bring from a second one is handed in."""
    import detectron2.evaluation.coco_evaluation as parent

    truth = make_ground_truth(12)
    detections = make_detections(truth, 12)
    name = register(truth)
    other = CocoEvaluator(name)
    feed(other, detections, images=IMAGES[2:])
    mine = CocoEvaluator(name)
    feed(mine, detections, images=IMAGES[:2])
    ranks = SimpleNamespace(
        synchronize=lambda: None,
        gather=lambda data, dst: [data, other._predictions],
        is_main_process=lambda: True,
    )
    monkeypatch.setattr(parent, "comm", ranks)
    assert_same(mine.evaluate()["bbox"]["AP"], reference(truth, detections)[0])
    ranks.is_main_process = lambda: False
    monkeypatch.setattr("smca.evaluation.coco_evaluator.comm", ranks)
    assert mine.evaluate() == {}


def test_it_is_a_detectron2_evaluator_that_names_its_backend(register, caplog):
    with caplog.at_level("INFO"):
        evaluator = CocoEvaluator(register(make_ground_truth(0)), backend="pycocotools")
        feed(evaluator, [])
        evaluator.evaluate()
    assert isinstance(evaluator, COCOEvaluator)
    assert "uses pycocotools" in caplog.text
    assert "|  AP   |  AP50  |" in caplog.text
    assert "| never there" in caplog.text


@pytest.mark.parametrize("is_category_map_known", [False, True])
@pytest.mark.parametrize(
    "content", ["no json", "[1, 2]", '{"images": [], "annotations": [{"id": 1}]}', "\x00"]
)
def test_file_that_is_no_coco_json(register, content, is_category_map_known):
    name = register(content)
    if is_category_map_known:
        MetadataCatalog.get(name).set(thing_dataset_id_to_contiguous_id={1: 0})
    with pytest.raises(ValueError, match=rf"{name}\.json.*is no COCO json"):
        CocoEvaluator(name)


def test_bad_arguments(register):
    with pytest.raises(ValueError, match="'nowhere' is not registered"):
        CocoEvaluator("nowhere")
    name = register(make_ground_truth(0))
    with pytest.raises(ValueError, match="max_dets_per_image is 10"):
        CocoEvaluator(name, max_dets_per_image=10)
    with pytest.raises(ValueError, match="unknown"):
        CocoEvaluator(name, backend="mine")


def test_predictions_that_do_not_fit_the_data_set(register):
    truth = make_ground_truth(0)
    evaluator = CocoEvaluator(register(truth))
    box = {"image_id": 3, "category_id": 2, "bbox": [1, 1, 5, 5], "score": 0.5}
    feed(evaluator, [box], contiguous={2: 4})
    with pytest.raises(ValueError, match=r"predicted class 4.*has 4 classes"):
        evaluator.evaluate()
    feed(evaluator, [{**box, "image_id": 99}], images=[99])
    with pytest.raises(ValueError, match="image id 99"):
        evaluator.evaluate()
