"""What a COCO json says, read into columns, and what is said about records that cannot be read."""

import json
import os

import numpy as np
import pytest

from helpers.custom_data import pets
from smca.data.sources import coco_repairs as repairs
from smca.data.sources.coco_json import (
    file_key,
    load_coco_json,
    read_coco_json,
    read_valid_coco_json,
)
from smca.data.sources.coco_tables import match_classes


@pytest.fixture
def write(tmp_path):
    def call(content, encoding="utf-8"):
        path = tmp_path / "data.json"
        text = content if isinstance(content, str) else json.dumps(content)
        path.write_text(text, encoding=encoding)
        return path

    return call


def test_columns(write):
    tables = read_valid_coco_json(write(pets()))
    assert tables.image_ids == [7, 9, 12]
    assert tables.sizes.tolist() == [[40, 32], [33, 48], [36, 36]]
    # Sorted by id, as Detectron2 does.
    assert (tables.class_ids, tables.class_names) == ([3, 11, 40], ["cat", "dog", "emu"])
    assert tables.image_index.tolist() == [0, 0, 1, 1]
    assert tables.class_index.tolist() == [1, 0, 2, 0]
    assert tables.boxes[0].tolist() == [1, 2, 15, 16.5]
    assert tables.is_crowd.tolist() == [False, False, False, True]
    assert tables.areas.tolist() == [200, 400, 1000, 1584]
    assert tables.id_map() == {3: 0, 11: 1, 40: 2}


def test_a_file_is_read_once_until_it_changes(write, monkeypatch):
    reads = []
    original = json.loads
    monkeypatch.setattr(json, "loads", lambda *a, **k: (reads.append(1), original(*a, **k))[1])
    path = write(pets())
    first = read_coco_json(path)
    assert read_coco_json(str(path)) is first
    assert len(reads) == 1
    content = pets()
    content["categories"][0]["name"] = "owl"
    write(content)
    os.utime(path, ns=(1, 1))
    assert read_coco_json(path).tables.class_names == ["cat", "dog", "owl"]
    assert len(reads) == 2


def test_what_is_not_read_may_be_anything(write):
    content = pets()
    for annotation, junk in zip(
        content["annotations"], [3, {"counts": "x"}, [[1]], {"size": None}], strict=True
    ):
        annotation["segmentation"] = junk
        annotation["keypoints"] = junk
    content["images"][0]["license"] = {}
    tables, problems, renamed, _ = read_coco_json(write(content))
    assert (problems, renamed) == ([], [])
    assert len(tables.boxes) == 4


def test_a_byte_order_mark_and_whole_floats(write):
    content = pets()
    content["images"][0].update(id=7.0, width=40.0)
    content["annotations"][0].update(image_id=7.0, category_id=11.0, iscrowd=False)
    tables = read_valid_coco_json(write(content, "utf-8-sig"))
    assert tables.image_ids[0] == 7
    assert type(tables.image_ids[0]) is int
    assert tables.class_index[0] == 1


def test_areas_and_crowds_that_are_missing_or_odd(write):
    content = pets()
    for annotation, area in zip(content["annotations"], [None, "x", -1, float("nan")], strict=True):
        annotation.update(area=area, iscrowd=None)
    del content["annotations"][0]["area"], content["annotations"][0]["iscrowd"]
    content["annotations"][1]["ignore"] = 1
    tables = read_valid_coco_json(write(content))
    assert tables.areas.tolist() == [15 * 16.5, 400, 1000, 33 * 48]
    assert tables.is_crowd.tolist() == [False, True, False, False]


def test_strings_as_ids(write):
    content = pets()
    for image in content["images"]:
        image["id"] = f"n{image['id']}"
    for annotation in content["annotations"]:
        annotation["image_id"] = f"n{annotation['image_id']}"
    tables = read_valid_coco_json(write(content))
    assert tables.image_ids == ["n7", "n9", "n12"]
    assert tables.image_index.tolist() == [0, 0, 1, 1]


def test_the_first_bad_record_is_named_and_the_others_counted(write):
    content = pets()
    del content["annotations"][1]["bbox"]
    content["annotations"][2]["bbox"] = [1, 2]
    path = write(content)
    with pytest.raises(ValueError, match=r"data\.json is no COCO json") as error:
        read_valid_coco_json(path)
    assert "annotation 1 (id 2) has no bbox, and 1 more such records" in str(error.value)
    tables, problems, *_ = read_coco_json(path)
    assert [(p.part, p.index) for p in problems] == [("annotation", 1), ("annotation", 2)]
    assert tables.positions.tolist() == [0, 3]
    assert tables.describe(1) == "annotation 3 (id 6)"


@pytest.mark.parametrize("image_id", ["7", 8])
def test_annotations_of_no_image(write, image_id):
    """A number that no image has is left out; text among numbers is a mistake, and so is none that fits."""
    content = pets()
    content["annotations"][0]["image_id"] = image_id
    if image_id == 8:
        assert read_valid_coco_json(write(content)).of_unknown_images == 1
    else:
        with pytest.raises(ValueError, match=r"annotation 0 \(id 1\) has image_id '7'"):
            read_valid_coco_json(write(content))
    for annotation in content["annotations"]:
        annotation["image_id"] = image_id
    with pytest.raises(ValueError, match="annotation 0"):
        read_valid_coco_json(write(content))


@pytest.mark.parametrize("depth", [100_000])
def test_nested_too_deeply(write, depth):
    with pytest.raises(ValueError, match="is no COCO json"):
        read_coco_json(write('{"a": ' + "[" * depth + "]" * depth + "}"))


def test_no_file(tmp_path):
    assert file_key(tmp_path / "nowhere.json") is None
    assert file_key(tmp_path) is None
    with pytest.raises(ValueError, match="does not exist"):
        read_coco_json(tmp_path / "nowhere.json")


def test_numbers_beyond_floats_are_not_finite(write):
    content = pets()
    content["annotations"][0]["bbox"] = [1, 2, 10**400, 4]
    boxes = read_valid_coco_json(write(content)).boxes
    assert boxes[0].tolist() == [1, 2, np.inf, 4]
    assert boxes[1].tolist() == [20, 5, 20, 20]


NAMES = ["cat", "Dog", "dog", "emu"]


def test_classes_of_another_file_are_matched_as_a_checkpoints_rows(write):
    """Upper and lower case and blanks are alike, unless a name is there letter by letter."""
    assert match_classes([" EMU ", "dog", "DOG", "Cats"], NAMES) == {" EMU ": 3, "dog": 2, "DOG": 1}
    tables = read_valid_coco_json(write(pets()))
    matched = tables.with_classes(
        ["Emu", "CAT", "yak", "dog "], label="val.json", other="train.json"
    )
    assert matched.class_names == ["Emu", "CAT", "yak", "dog "]
    assert matched.class_ids == [40, 3, None, 11]
    assert matched.class_index.tolist() == [3, 1, 0, 1]


@pytest.mark.parametrize("used", [True, False])
def test_two_classes_that_are_one_in_the_other_file(write, used):
    content = pets()
    content["categories"].append({"id": 99, "name": "CAT"})
    if used:
        content["annotations"][0]["category_id"] = 99
    tables = read_valid_coco_json(write(content))
    if used:
        with pytest.raises(
            ValueError, match="of the categories 'cat' and 'CAT', which are both 'Cat'"
        ):
            tables.with_classes(["Cat", "dog", "emu"], label="val.json", other="train.json")
    else:
        matched = tables.with_classes(["Cat", "dog", "emu"], label="val.json", other="train.json")
        assert matched.class_ids == [3, 11, 40]


def test_a_segmentation_is_kept_where_there_is_no_box(write):
    content = pets()
    for annotation in content["annotations"]:
        annotation["segmentation"] = [[1, 2, 3, 2, 3, 9]]
    del content["annotations"][1]["bbox"]
    kept = load_coco_json(write(content), label="data.json")["annotations"]
    assert ["segmentation" in annotation for annotation in kept] == [False, True, False, False]
    with pytest.raises(
        ValueError, match=r"annotation 1 \(id 2\) has no bbox, but a segmentation .*--fix"
    ):
        read_valid_coco_json(write(content))


def test_a_bad_category_is_no_fault_of_its_annotations(write):
    content = pets()
    for category in content["categories"]:
        category["name"] = category["id"]
    file = read_coco_json(write(content))
    assert [problem.kind for problem in file.problems] == [repairs.NUMBER_AS_NAME.kind] * 3
    # Their own faults are still told.
    content["annotations"][0]["bbox"] = "1 2 3 4"
    content["annotations"][1]["category_id"] = 55
    file = read_coco_json(write(content))
    kinds = [problem.kind for problem in file.problems]
    assert kinds[3:] == ["unknown category", "malformed annotation"]


def test_an_id_of_another_type_is_no_fault_of_its_annotations(write):
    content = pets()
    content["categories"][1].update(id="3")
    content["annotations"][1]["category_id"] = "3"
    kinds = [problem.kind for problem in read_coco_json(write(content)).problems]
    # The category's, and of the two annotations of it the one that is written alike.
    assert kinds == [repairs.NUMBER_AS_ID.kind] * 2


def test_a_bad_image_is_no_fault_of_its_annotations(write):
    content = pets()
    content["images"][0]["width"] = 0
    file = read_coco_json(write(content))
    assert [problem.kind for problem in file.problems] == ["malformed image"]
    assert file.tables.of_unknown_images == 0
    assert len(file.tables.boxes) == 2
