"""--fix writes a file without the fixable faults and leaves the old one as it was."""

import copy
import json

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask

from helpers.custom_data import PETS, pets, write_data_set
from helpers.odd_boxes import FORMATS, many_objects, written_as
from smca.data.sources.coco_repairs import box_from_segmentation
from smca.data_check import check_dataset, fix_dataset


def check(json_file, images):
    return check_dataset(str(json_file), image_root=str(images), workers=0, progress=False)


def fix(tmp_path, content, spoil=lambda images: None):
    """The fixed content, what was said about it, and the report on it."""
    json_file, images = write_data_set(tmp_path, content)
    spoil(images)
    before = json_file.read_bytes()
    target = tmp_path / "new" / "fixed.json"
    changes = fix_dataset(check(json_file, images), str(target))
    assert json_file.read_bytes() == before
    assert [path.name for path in target.parent.iterdir()] == ["fixed.json"]
    return json.loads(target.read_text()), changes, check(target, images)


def test_a_clean_file_is_copied(tmp_path):
    content = pets()
    content["info"] = {"year": 2024}
    content["annotations"][0]["segmentation"] = [[1, 2, 3, 4, 5, 6]]
    fixed, changes, report = fix(tmp_path, content)
    assert (fixed, changes, report.findings) == (content, [], [])


def test_faults_of_every_kind(tmp_path):
    content = pets()
    base = content["annotations"][0]
    bad_boxes = [[1, float("nan"), 3, 4], [1, 1, 0, 4], [60, 60, 5, 5], [1, 1, -2, 2]]
    content["annotations"] += [
        *({**base, "id": 100 + i, "bbox": box} for i, box in enumerate(bad_boxes)),
        {**base, "id": 1},
        {**base, "id": 110, "image_id": 55},
        {**base, "id": 111, "category_id": 55},
        {k: v for k, v in base.items() if k != "bbox"},
        {k: v for k, v in base.items() if k != "id"},
        "junk",
        {**base, "id": 120, "bbox": [-4, 2, 10, 10], "area": 100},
        {**base, "id": 121, "bbox": [-4, 2, 10, 10], "area": 77},
    ]
    content["images"] += [{**content["images"][0], "file_name": "again.png"}, {"id": 70}]
    content["categories"] += [{"id": 3, "name": "again"}, {"id": 80}, {"id": 90, "name": "cat"}]
    fixed, changes, report = fix(tmp_path, content)
    assert report.findings == []
    assert fixed["images"] == PETS["images"]
    names = {c["id"]: c["name"] for c in fixed["categories"]}
    assert names == {40: "emu", 3: "cat (id 3)", 11: "dog", 90: "cat"}
    assert fixed["annotations"][:4] == PETS["annotations"]
    added = fixed["annotations"][4:]
    assert [a["bbox"] for a in added] == [[1, 2, 15, 16.5]] * 2 + [[0, 2, 6, 10]] * 2
    assert [a["area"] for a in added] == [200, 200, 60, 77]
    assert len({a["id"] for a in fixed["annotations"]}) == 8
    assert "2 annotations given new ids" in changes
    assert "2 boxes left out: without area" in changes
    assert "2 boxes cut at the image's edge" in changes


@pytest.mark.parametrize("box_format", FORMATS, ids=str)
def test_boxes_of_another_format_are_rewritten(tmp_path, box_format):
    right = many_objects()
    content = written_as(copy.deepcopy(right), box_format)
    content["annotations"][0]["segmentation"] = [[1, 2, 3, 4, 5, 6]]
    fixed, changes, report = fix(tmp_path, content)
    boxes, expected = ([a["bbox"] for a in c["annotations"]] for c in (fixed, right))
    assert np.allclose(boxes, expected, rtol=0, atol=1e-9)
    assert [a["area"] for a in fixed["annotations"]] == [b[2] * b[3] for b in boxes]
    assert changes[0] == f"60 boxes rewritten from {box_format.describe()}"
    # Polygons of such files may be in either unit.
    assert ("segmentation" in fixed["annotations"][0]) != box_format.normalised
    assert report.findings == []


def test_normalised_boxes_of_an_unknown_layout_are_not_guessed(tmp_path):
    content = many_objects()
    for annotation in content["annotations"]:
        annotation["bbox"] = [0.45, 0.45, 0.1, 0.1]
    with pytest.raises(ValueError, match="nothing tells whether they start at a corner"):
        fix(tmp_path, content)
    assert not (tmp_path / "new").exists()


def as_text(content):
    for annotation in content["annotations"]:
        annotation["bbox"] = [str(v) for v in annotation["bbox"]]
        annotation["iscrowd"] = str(annotation["iscrowd"])
    for image in content["images"]:
        image["width"] = f" {image['width']}"


def ids_as_text(content):
    for annotation in content["annotations"]:
        annotation["category_id"] = str(annotation["category_id"])
        annotation["image_id"] = str(annotation["image_id"])


def class_first(content):
    for annotation in content["annotations"]:
        annotation["bbox"].insert(0, annotation["category_id"])


def angle_last(content):
    for annotation in content["annotations"]:
        annotation["bbox"].append(0.0)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (as_text, "4 numbers of boxes written as text, converted"),
        (ids_as_text, "8 ids of another type, converted"),
        (class_first, "4 boxes of five numbers, of which four are the box"),
        (angle_last, "4 boxes of five numbers, of which four are the box"),
    ],
)
def test_what_is_written_otherwise_is_converted(tmp_path, spoil, said):
    """Instead of leaving out every annotation."""
    content = pets()
    spoil(content)
    fixed, changes, report = fix(tmp_path, content)
    assert fixed == PETS
    assert said in changes
    assert report.findings == []


def test_ids_of_categories_and_images_that_are_text(tmp_path):
    content = pets()
    for record in content["categories"] + content["images"]:
        record["id"] = str(record["id"])
    fixed, changes, report = fix(tmp_path, content)
    assert changes == ["8 ids of another type, converted"]
    assert [(a["image_id"], a["category_id"]) for a in fixed["annotations"]] == [
        ("7", "11"), ("7", "3"), ("9", "40"), ("9", "3"),
    ]  # fmt: skip
    assert report.findings == []


def test_a_category_named_by_a_number_keeps_its_class(tmp_path):
    content = pets()
    content["categories"][1]["name"] = 7
    fixed, changes, report = fix(tmp_path, content)
    assert [c["name"] for c in fixed["categories"]] == ["emu", "7", "dog"]
    assert fixed["annotations"] == PETS["annotations"]
    assert changes == ["1 category names written as text, converted"]
    assert report.findings == []


POLYGONS = [
    [[3, 4, 13, 4, 13, 10]],
    [["1", 2.5, 4, 2.5, 4, 20]],
    [[5, 5, 9, 5, 9, 9], [1, 1, 2, 1, 2, 3]],
]


def test_a_segmentation_has_a_box(tmp_path):
    content = pets()
    shape = np.zeros((48, 33), np.uint8)
    shape[10:20, 5:25] = 1
    runs = mask.encode(np.asfortranarray(shape))
    flat = shape.ravel(order="F")
    starts = [0, *(np.flatnonzero(np.diff(flat)) + 1).tolist(), flat.size]
    plain = {"size": [48, 33], "counts": np.diff(starts).tolist()}
    shapes = [POLYGONS[0], POLYGONS[1], {**runs, "counts": runs["counts"].decode()}, plain]
    for annotation, segmentation in zip(content["annotations"], shapes, strict=True):
        annotation["segmentation"] = segmentation
        annotation["iscrowd"] = 0
        del annotation["bbox"]
    content["annotations"].append(
        {"id": 90, "image_id": 12, "category_id": 3, "bbox": [], "segmentation": POLYGONS[2]}
    )
    fixed, changes, report = fix(tmp_path, content)
    assert [a["bbox"] for a in fixed["annotations"]] == [
        [3, 4, 10, 6], [1, 2.5, 3, 17.5], [5, 10, 20, 10], [5, 10, 20, 10], [1, 1, 8, 8],
    ]  # fmt: skip
    assert changes == ["5 boxes taken from the segmentation"]
    assert report.findings == []


@pytest.mark.parametrize(
    "segmentation",
    [
        [], [[]], [[1, 2]], [[1, 2, 3, 4, 5]], [["a"] * 6], {}, {"size": [0, 5], "counts": "04"}, 3,
        {"size": [2, 2], "counts": [9, 9]}, {"size": [2, 2], "counts": [-1, 5]}, {"size": [4, 4], "counts": 7},
        {"size": [4, 4], "counts": [16]}, [[float("nan")] * 6], {"size": [4, 4], "counts": ""}, None,
        {"size": [4, 4], "counts": "0" * 64 + "o"}, {"size": [4, 4], "counts": "ooooooooooo0"}, [[10**400] * 6],
        {"size": [4, 4], "counts": "\ud800"}, {"size": [2**17, 2**17], "counts": [1, 2**33]},
    ],
    ids=ascii,
)  # fmt: skip
def test_a_segmentation_without_a_box(segmentation):
    with pytest.raises(ValueError):  # noqa: PT011
        box_from_segmentation(segmentation)


@pytest.mark.parametrize("boxes", [[1, 2, 3], [1, 2, 3, 4, 0.5], [[1, 2, 3, 4]], "1 2 3 4"])
def test_nothing_is_written_that_has_lost_every_annotation(tmp_path, boxes):
    content = pets()
    for annotation in content["annotations"]:
        annotation["bbox"] = boxes
    # A crowd that is left is nothing to learn from.
    content["annotations"].append({**PETS["annotations"][3], "id": 9})
    with pytest.raises(ValueError, match=r"none of its 5 annotations would be left") as error:
        fix(tmp_path, content)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "new").exists()


def test_images(tmp_path):
    """One is missing, one was resized by a half, one has another shape."""
    content = pets()
    content["images"].append({"id": 30, "file_name": "gone.png", "width": 5, "height": 5})
    content["annotations"].append(
        {**content["annotations"][0], "id": 50, "image_id": 30, "bbox": [1, 1, 3, 3]}
    )
    content["annotations"][0]["segmentation"] = [[1, 2, 3, 4, 5, 6]]

    def spoil(images):
        Image.new("RGB", (20, 16)).save(images / "a.png")
        Image.new("RGB", (50, 20)).save(images / "b.jpg")

    fixed, changes, report = fix(tmp_path, content, spoil)
    assert [image["id"] for image in fixed["images"]] == [7, 12]
    assert (fixed["images"][0]["width"], fixed["images"][0]["height"]) == (20, 16)
    assert [a["bbox"] for a in fixed["annotations"]] == [[0.5, 1, 7.5, 8.25], [10, 2.5, 10, 10]]
    assert [a["area"] for a in fixed["annotations"]] == [50, 100]
    assert "segmentation" not in fixed["annotations"][0]
    assert "1 segmentation left out where boxes were scaled" in changes
    assert "3 annotations left out with their image" in changes
    assert report.findings == []


def test_an_image_scaled_by_two_factors(tmp_path):
    """641x481 to 320x240: rounding gives width and height factors of their own."""
    content = pets()
    content["images"][0].update(width=641, height=481)
    content["annotations"][0]["bbox"] = [64.1, 48.1, 320.5, 240.5]

    def spoil(images):
        Image.new("RGB", (320, 240)).save(images / "a.png")

    fixed, _, _ = fix(tmp_path, content, spoil)
    assert fixed["annotations"][0]["bbox"] == pytest.approx([32, 24, 160, 120], abs=1e-9)


def test_files_that_must_not_be_written(tmp_path):
    json_file, images = write_data_set(tmp_path)
    report = check(json_file, images)
    with pytest.raises(ValueError, match="is the file that was checked"):
        fix_dataset(report, str(json_file), overwrite=True)
    other = tmp_path / "other.json"
    other.write_text("mine")
    with pytest.raises(ValueError, match="exists already; --force overwrites it"):
        fix_dataset(report, str(other))
    assert other.read_text() == "mine"
    fix_dataset(report, str(other), overwrite=True)
    assert json.loads(other.read_text()) == PETS


def test_annotations_of_numeric_categories_are_kept_and_of_bad_ones_left_out(tmp_path):
    content = pets()
    for category in content["categories"]:
        category["name"] = category["id"]
    fixed, changes, report = fix(tmp_path / "numeric", content)
    assert (len(fixed["annotations"]), report.findings) == (4, [])
    assert changes == ["3 category names written as text, converted"]
    content["categories"][1]["name"] = ["cat"]
    fixed, changes, report = fix(tmp_path / "one", content)
    assert (len(fixed["annotations"]), report.findings) == (2, [])
    assert "2 records left out: annotation of a category that was left out" in changes
    for category in content["categories"]:
        category["name"] = []
    with pytest.raises(ValueError, match="no category would be left"):
        fix(tmp_path / "all", content)
