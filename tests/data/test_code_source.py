"""Data sets that the user's own code registers."""

import copy

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import load_coco_json, register_coco_instances
from detectron2.structures import Boxes, BoxMode, Instances
from PIL import Image

from helpers.custom_data import write_data_set
from smca.data import check_same_class_names, load_detection_dataset
from smca.data.sources.coco_source import CocoSource, find_source
from smca.data.sources.detection_dataset import class_names_of
from smca.data_check import check_dataset
from smca.errors import InputError
from smca.evaluation import CocoEvaluator

NAME = "smca_test_code"


@pytest.fixture
def register(tmp_path):
    names = []
    for name in ("a.png", "b.png"):
        Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(tmp_path / name)

    def call(change=lambda dicts: None, *, name=NAME, **metadata):
        dicts = [
            {
                "file_name": str(tmp_path / "a.png"),
                "height": np.int64(20),
                "width": 30,
                "extra": "kept",
                "annotations": [
                    {
                        "bbox": np.array([1.0, 2, 11, 12]),
                        "bbox_mode": BoxMode.XYXY_ABS,
                        "category_id": np.int64(1),
                        "segmentation": [[1, 2, 3, 4, 5, 6]],
                    },
                    {"bbox": [25, 15, 10, 10], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 0},
                    {"bbox": [5, 5, 5, 9], "bbox_mode": BoxMode.XYXY_ABS, "category_id": 0},
                ],
            },
            {"file_name": str(tmp_path / "b.png")},
        ]
        change(dicts)
        DatasetCatalog.register(name, lambda: copy.deepcopy(dicts))
        names.append(name)
        MetadataCatalog.get(name).set(**metadata)
        return dicts

    yield call
    for name in names:
        DatasetCatalog.pop(name)
        MetadataCatalog.pop(name)


def test_usable_objects_stay_as_they_are(register):
    dicts = register(thing_classes=["cat", "dog"])
    first, second = load_detection_dataset(NAME)
    assert first["extra"] == "kept"
    whole, cut = first["annotations"]
    assert whole["bbox"].tolist() == dicts[0]["annotations"][0]["bbox"].tolist()
    assert whole["segmentation"] == [[1, 2, 3, 4, 5, 6]]
    assert type(whole["category_id"]) is int
    assert (cut["bbox"], cut["bbox_mode"]) == ([25, 15, 5, 5], BoxMode.XYWH_ABS)
    assert second["annotations"] == []
    assert [first["image_id"], second["image_id"]] == [0, 1]


def test_without_class_names_classes_are_numbers(register):
    register()
    assert class_names_of(NAME) == ("0", "1")
    load_detection_dataset(NAME)
    assert MetadataCatalog.get(NAME).thing_classes == ["0", "1"]


def test_evaluation_needs_no_json_and_no_file(register, tmp_path):
    register(
        lambda dicts: dicts[0]["annotations"].pop(),
        thing_classes=["cat", "dog"],
    )
    evaluator = CocoEvaluator(NAME)
    evaluator.reset()
    perfect = Instances((20, 30))
    perfect.pred_boxes = Boxes(torch.tensor([[1.0, 2, 11, 12], [25, 15, 35, 25]]))
    perfect.scores, perfect.pred_classes = torch.tensor([0.9, 0.8]), torch.tensor([1, 0])
    evaluator.process([{"image_id": 0}], [{"instances": perfect}])
    result = evaluator.evaluate()["bbox"]
    assert result["AP"] == pytest.approx(100)
    assert result["AP-dog"] == pytest.approx(100)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.png"]


def bad(path, value):
    def change(dicts):
        node = dicts
        for part in path[:-1]:
            node = node[part]
        node[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ((0,), "a.png", "image 0 is 'a.png' instead of an object"),
        ((1, "file_name"), None, "image 1 has file_name None"),
        ((0, "width"), -3, "has width -3"),
        ((0, "width"), 31, "1 of 2 images of smca_test_code have another size than it says"),
        ((0, "annotations"), {"a": 1}, "has annotations {'a': 1}, which must be a list"),
        ((0, "annotations", 1), None, "annotation 1 is None instead of an object"),
        ((0, "annotations", 1, "bbox"), [1, 2], "annotation 1 has bbox [1, 2]"),
        ((0, "annotations", 1, "bbox_mode"), BoxMode.XYXY_REL, "must be BoxMode.XYXY_ABS"),
        ((0, "annotations", 1, "bbox_mode"), None, "has bbox_mode None"),
        ((0, "annotations", 1, "category_id"), "cat", "has category_id 'cat'"),
        ((0, "annotations", 1, "category_id"), -1, "has category_id -1"),
        ((0, "annotations", 1, "category_id"), 7, "names 2 classes (0 to 1)"),
        ((0, "annotations", 1, "iscrowd"), "no", "has iscrowd 'no'"),
        ((1, "image_id"), 0, "b.png) has the id of image 0"),
        ((1, "file_name"), "nowhere.png", "1 of 2 image files of smca_test_code are missing"),
    ],
)
def test_what_cannot_be_used_is_named(register, path, value, words):
    register(bad(path, value), thing_classes=["cat", "dog"])
    with pytest.raises(ValueError, match="smca_test_code") as error:
        load_detection_dataset(NAME)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_the_check_lists_all_that_cannot_be_used(register):
    def spoil(dicts):
        dicts[0]["annotations"][0]["category_id"] = 7
        dicts[0]["annotations"][1]["bbox"] = [1, 2]
        dicts.append({"file_name": 3})

    register(spoil, thing_classes=["cat", "dog"])
    report = check_dataset(NAME, images=False)
    found = {fault.kind: fault.examples for fault in report.findings}
    assert set(found) == {"malformed image", "malformed annotation", "box without area"}
    assert found["malformed image"] == ["image 2 has file_name 3, which must be a file's name"]
    assert [text.partition("annotation ")[2] for text in found["malformed annotation"]] == [
        "0 has category_id 7, but thing_classes in the metadata names 2 classes (0 to 1)",
        "1 has bbox [1, 2], which is no list of four numbers",
    ]
    with pytest.raises(InputError, match=r"image 2 .*, and 2 more such records"):
        load_detection_dataset(NAME)


def test_code_that_names_a_json_is_called(register, tmp_path):
    """As Detectron2's users write it: the json's images, but some of them, and with fields of their own."""
    json_file, images = write_data_set(tmp_path / "json")
    metadata = {"json_file": str(json_file), "image_root": str(images), "evaluator_type": "coco"}
    plain = "smca_test_plain"
    register_coco_instances(plain, {}, str(json_file), str(images))
    mine = "smca_test_mine"

    def some():
        return [{**r, "mine": 1} for r in load_coco_json(json_file, images, mine)][1:]

    DatasetCatalog.register(mine, some)
    MetadataCatalog.get(mine).set(**metadata)
    try:
        assert isinstance(find_source(plain), CocoSource)
        assert isinstance(find_source("coco_2017_val"), CocoSource)
        assert [r["image_id"] for r in load_detection_dataset(plain)] == [7, 9, 12]
        assert [(r["image_id"], r["mine"]) for r in load_detection_dataset(mine)] == [
            (9, 1),
            (12, 1),
        ]
    finally:
        for name in (plain, mine):
            DatasetCatalog.remove(name)
            MetadataCatalog.remove(name)


def test_classes_of_two_data_sets_are_compared_by_name(register):
    register(thing_classes=["cat", "dog"])
    register(name="smca_test_more", thing_classes=["dog", "cat"])
    with pytest.raises(ValueError, match="the same names in another order"):
        load_detection_dataset([NAME, "smca_test_more"])
    load_detection_dataset(NAME)
    with pytest.raises(ValueError, match="have different classes"):
        check_same_class_names(NAME, "smca_test_more")
    check_same_class_names(NAME, NAME)
