import copy
import json
import logging

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from PIL import Image

from smca.data import (
    check_classes,
    check_has_objects,
    check_same_class_names,
    load_detection_dataset,
    warn_crowded,
)

CONTENT = {
    "images": [
        {"id": 7, "file_name": "a.png", "height": 20, "width": 30},
        {"id": 9, "file_name": "empty.png", "height": 20, "width": 30},
    ],
    "annotations": [
        {"id": 1, "image_id": 7, "category_id": 11, "bbox": [1, 2, 5, 6], "area": 30, "iscrowd": 0}
    ],
    "categories": [{"id": 3, "name": "cat"}, {"id": 11, "name": "dog"}],
}


@pytest.fixture
def register(tmp_path):
    names = []

    def add(content=CONTENT, *, name="smca_test_pets", images=("a.png", "empty.png"), text=None):
        root = tmp_path / name
        root.mkdir()
        for image in images:
            Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(root / image)
        json_file = root / "annotations.json"
        json_file.write_text(json.dumps(content) if text is None else text)
        register_coco_instances(name, {}, str(json_file), str(root))
        names.append(name)
        return json_file

    yield add
    for name in names:
        DatasetCatalog.pop(name)
        MetadataCatalog.pop(name)


def error_of(names="smca_test_pets", **options) -> str:
    with pytest.raises(ValueError, match=r"smca_test") as error:
        load_detection_dataset(names, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def without(*path):
    content = copy.deepcopy(CONTENT)
    node = content
    for part in path[:-1]:
        node = node[part]
    del node[path[-1]]
    return content


def test_images_without_objects_are_kept_unless_filtered(register):
    register()
    both = load_detection_dataset("smca_test_pets")
    assert [(d["image_id"], len(d["annotations"])) for d in both] == [(7, 1), (9, 0)]
    assert both[0]["annotations"][0]["category_id"] == 1
    assert [d["image_id"] for d in load_detection_dataset("smca_test_pets", filter_empty=True)] == [
        7
    ]


def test_images_with_crowds_only_are_filtered_as_empty(register):
    """The mapper leaves crowds out, so there would be nothing to learn from."""
    content = copy.deepcopy(CONTENT)
    crowd = {**content["annotations"][0], "id": 2, "image_id": 9, "iscrowd": 1}
    content["annotations"].append(crowd)
    register(content)
    both = load_detection_dataset("smca_test_pets")
    assert [(d["image_id"], len(d["annotations"])) for d in both] == [(7, 1), (9, 1)]
    filtered = load_detection_dataset("smca_test_pets", filter_empty=True)
    assert [d["image_id"] for d in filtered] == [7]


def test_filtering_everything_is_refused(register):
    content = copy.deepcopy(CONTENT)
    content["annotations"][0]["iscrowd"] = 1
    register(content)
    assert "has an object, and filter_empty is on" in error_of(filter_empty=True)


def test_several_data_sets_one_after_the_other(register):
    register()
    register(name="smca_test_more")
    dicts = load_detection_dataset(["smca_test_more", "smca_test_pets"])
    assert [d["image_id"] for d in dicts] == [7, 9, 7, 9]
    assert "smca_test_more" in dicts[0]["file_name"]


def test_not_registered():
    message = error_of("smca_test_unknown")
    assert "'smca_test_unknown' is not registered" in message
    assert "register_coco_instances" in message


def test_annotation_file_missing(register):
    json_file = register()
    json_file.unlink()
    message = error_of()
    assert str(json_file) in message
    assert "does not exist" in message


@pytest.mark.parametrize("text", ["{", "images: []", "\udcff"])
def test_no_json(register, text):
    json_file = register(text="" if text == "\udcff" else text)
    if text == "\udcff":
        json_file.write_bytes(b"\x80\x81")
    message = error_of()
    assert (
        f"{json_file} (data set 'smca_test_pets') is no COCO json, not even a json file" in message
    )


@pytest.mark.parametrize("content", [[], "images", 3, None])
def test_no_object_at_the_top(register, content):
    json_file = register(content)
    assert f"{json_file} (data set 'smca_test_pets') is no COCO json" in error_of()


@pytest.mark.parametrize("key", ["images", "annotations", "categories"])
@pytest.mark.parametrize("value", [None, {}, "x"])
def test_a_list_is_missing(register, key, value):
    content = {**CONTENT, key: value}
    if value is None:
        del content[key]
    json_file = register(content)
    message = error_of()
    assert str(json_file) in message
    assert f"it has no list '{key}'" in message


@pytest.mark.parametrize(
    "path",
    [
        ("images", 0, "id"),
        ("images", 0, "file_name"),
        ("images", 0, "height"),
        ("annotations", 0, "image_id"),
        ("annotations", 0, "category_id"),
        ("annotations", 0, "bbox"),
        ("categories", 0, "id"),
        ("categories", 0, "name"),
    ],
)
def test_a_field_is_missing(register, path):
    register(without(*path))
    message = error_of()
    assert "no COCO json" in message
    assert path[-1] in message


@pytest.mark.parametrize("key", ["images", "annotations", "categories"])
def test_lists_of_something_else(register, key):
    register({**CONTENT, key: ["a", "b"]})
    assert "no COCO json" in error_of()


def test_a_category_that_the_file_does_not_define(register):
    content = copy.deepcopy(CONTENT)
    content["annotations"][0]["category_id"] = 5
    register(content)
    message = error_of()
    assert "category_id" in message
    assert "5" in message


def test_image_file_missing(register):
    json_file = register(images=("a.png",))
    message = error_of()
    assert "1 of 2 image files of smca_test_pets are missing" in message
    assert str(json_file.parent / "empty.png") in message


def record(category_id, name="a.png"):
    return {"file_name": name, "annotations": [{"category_id": category_id}]}


def test_classes_within_the_model():
    check_classes([record(0), record(9), {"file_name": "b.png", "annotations": []}], 10, "pets")
    check_classes([{"file_name": "no_annotations.png"}], 10, "pets")


@pytest.mark.parametrize("category_id", [10, 90, -1])
def test_class_beyond_the_model(category_id):
    dataset = [record(3), record(category_id, "bad.png")]
    with pytest.raises(ValueError, match=r"set model\.num_classes") as error:
        check_classes(dataset, 10, "pets")
    message = str(error.value)
    for part in ("pets", "bad.png", f"class {category_id},", "num_classes=10", "0 to 9"):
        assert part in message


def crowded(*counts):
    objects = ({"category_id": 0, "iscrowd": 0}, {"category_id": 0, "iscrowd": 1})
    return [
        {"file_name": f"{n}.png", "annotations": [objects[0]] * n + [objects[1]] * 5}
        for n in counts
    ]


def test_more_objects_than_queries_are_told(caplog):
    dataset = crowded(2, 7, 11)
    with caplog.at_level(logging.WARNING, logger="smca"):
        for num_queries in (11, 10, 6):
            warn_crowded(dataset, num_queries, "smca_test_crowd")
    found = [record.getMessage() for record in caplog.records]
    assert len(found) == 2
    assert found[1].startswith(
        "smca_test_crowd: 2 of 3 images have more objects than the model's 6 "
    )
    assert "the most has 11.png, 11: set model.decoder.num_queries above that" in found[1]
    assert "1 of 3 images" in found[0]


@pytest.mark.parametrize(
    ("names", "same"),
    [
        (["Cat ", "DOG"], True),
        (["cat", "dog"], True),
        (["dog", "cat"], False),
        (["cat", "dog", "emu"], False),
        (["cat"], False),
        (["cat", "cow"], False),
    ],
)
def test_classes_of_two_registered_data_sets(register, names, same):
    register()
    content = copy.deepcopy(CONTENT)
    content["categories"] = [{"id": 3 + 8 * i, "name": name} for i, name in enumerate(names)]
    content["annotations"][0]["category_id"] = 3
    register(content, name="smca_test_more")
    for name in ("smca_test_pets", "smca_test_more"):
        load_detection_dataset(name)
    if same:
        check_same_class_names("smca_test_pets", "smca_test_more")
    else:
        with pytest.raises(ValueError, match="have different classes"):
            check_same_class_names("smca_test_pets", "smca_test_more")


@pytest.mark.parametrize("crowds", [0, 1])
def test_a_training_without_any_object_is_refused(register, crowds):
    content = copy.deepcopy(CONTENT)
    content["annotations"][0]["iscrowd"] = 1
    content["annotations"] *= crowds
    register(content)
    records = load_detection_dataset("smca_test_pets")
    with pytest.raises(ValueError, match="smca_test_pets has no object to learn from") as error:
        check_has_objects(records, "smca_test_pets")
    assert "\n" not in str(error.value)


def test_a_backslash_in_the_name_of_a_missing_file(register):
    content = copy.deepcopy(CONTENT)
    content["images"][0]["file_name"] = "sub\\a.png"
    register(content)
    message = error_of()
    assert "1 of 2 image files of smca_test_pets are missing" in message
    assert "its name has a backslash: only Windows takes it for a folder's end" in message
