"""--fix writes a file without the fixable faults and leaves the old one as it was."""

import copy
import json

import pytest
from PIL import Image

from helpers.custom_data import PETS, pets, write_data_set
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


def test_corners_are_rewritten(tmp_path):
    content = pets()
    base = content["annotations"][1]
    content["annotations"] += [{**base, "id": 100 + i} for i in range(4)]
    right = copy.deepcopy(content)
    for annotation in content["annotations"]:
        x, y, w, h = annotation["bbox"]
        annotation["bbox"] = [x, y, x + w, y + h]
    fixed, changes, report = fix(tmp_path, content)
    assert [a["bbox"] for a in fixed["annotations"]] == [a["bbox"] for a in right["annotations"]]
    assert changes == ["8 boxes rewritten from corners"]
    assert report.findings == []


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
