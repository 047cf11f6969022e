"""Hints are given for what they name, and leave the exit status alone."""

import json

import numpy as np
import pytest
from PIL import Image

from helpers.custom_data import pets, write_data_set
from smca.data_check import check_dataset
from smca.data_check.command import main


@pytest.fixture
def hints_of(tmp_path, capsys):
    def call(content, spoil=lambda images: None, root=None) -> dict:
        json_file, images = write_data_set(tmp_path, content)
        spoil(images)
        options = {"workers": 0, "progress": False, "image_root": str(root or images)}
        report = check_dataset(str(json_file), **options)
        found = {hint.kind: (hint.count, hint.examples) for hint in report.hints}
        arguments = [str(json_file), "--images", str(root or images), "--workers", "0"]
        assert main(arguments) == (1 if report.findings else 0)
        printed = capsys.readouterr().out
        assert [f"Hint: {kind} (" in printed for kind in found] == [True] * len(found)
        return found

    return call


def test_none_for_a_clean_data_set(hints_of):
    assert hints_of(pets()) == {}


def test_a_file_name_used_twice(hints_of):
    content = pets()
    content["images"].append({**content["images"][0], "id": 70})
    assert hints_of(content) == {"file name used twice": (1, ["a.png"])}


def test_the_same_picture_twice(hints_of):
    content = pets()
    content["images"].append({**content["images"][0], "id": 70, "file_name": "copy.bmp"})

    def spoil(images):
        Image.open(images / "a.png").save(images / "copy.bmp")

    assert hints_of(content, spoil) == {"same picture twice": (1, ["copy.bmp is a.png again"])}


def test_a_box_drawn_twice(hints_of):
    content = pets()
    content["annotations"].append({**content["annotations"][0], "id": 90})
    # Of another class, and of a crowd: both are no mistake.
    content["annotations"].append({**content["annotations"][0], "id": 91, "category_id": 40})
    content["annotations"].append({**content["annotations"][3], "id": 92})
    assert hints_of(content) == {"box drawn twice": (1, ["annotation 4 (id 90) in a.png"])}


def test_a_class_without_objects(hints_of):
    content = pets()
    content["categories"].append({"id": 99, "name": "yak"})
    assert hints_of(content) == {"class without objects": (1, ["yak"])}


def test_backslashes(hints_of):
    content = pets()
    content["images"][0]["file_name"] = "images\\a.png"
    found = hints_of(content)
    assert found == {"backslash in a file name": (1, ["images\\a.png"])}


def test_a_folder_named_twice(hints_of):
    content = pets()
    for image in content["images"]:
        image["file_name"] = f"data_images/{image['file_name']}"
    assert hints_of(content)["folder named twice"][0] == 3


@pytest.mark.parametrize("value", [255, "12 bits in 16"])
def test_images_without_contrast(hints_of, value):
    def spoil(images):
        for path in images.iterdir():
            width, height = Image.open(path).size
            if value == 255:
                pixels = np.full((height, width), 255, np.uint8)
            else:
                pixels = np.linspace(0, 4095, height * width).reshape(height, width)
            Image.fromarray(pixels.astype(np.uint8 if value == 255 else np.uint16)).save(
                path, "PNG"
            )

    found = hints_of(pets(), spoil)
    assert {kind: count for kind, (count, _) in found.items()} == {"image without contrast": 3}


def test_one_empty_image_is_no_hint(hints_of):
    assert (
        hints_of(pets(), lambda images: Image.new("RGB", (36, 36)).save(images / "empty.png")) == {}
    )


def test_empty_images_are_not_the_same_picture(hints_of):
    content = pets()
    content["images"].append({**content["images"][2], "id": 70, "file_name": "empty_too.png"})

    def spoil(images):
        for name in ("empty.png", "empty_too.png"):
            Image.new("RGB", (36, 36), "white").save(images / name)

    assert hints_of(content, spoil) == {}


def test_a_size_from_before_the_exif_rotation(hints_of):
    content = pets()

    def spoil(images):
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.open(images / "b.jpg").save(images / "b.jpg", exif=exif)

    found = hints_of(content, spoil)
    assert found == {"size stated before the EXIF rotation": (1, ["b.jpg is 48x33"])}


def test_in_the_json_report(tmp_path):
    content = pets()
    content["categories"].append({"id": 99, "name": "yak"})
    json_file, images = write_data_set(tmp_path, content)
    target = tmp_path / "report.json"
    assert (
        main([str(json_file), "--images", str(images), "--workers=0", "--json", str(target)]) == 0
    )
    (hint,) = json.loads(target.read_text())["hints"]
    assert hint.pop("advice").startswith("The model gets a class for each")
    assert hint == {"kind": "class without objects", "count": 1, "examples": ["yak"]}


@pytest.mark.parametrize("kind", [np.uint16, np.int32])
def test_8_bits_stored_in_more(hints_of, kind):
    def spoil(images):
        Image.fromarray(np.full((36, 36), 255, kind)).save(images / "empty.png", "TIFF")

    found = hints_of(pets(), spoil)
    assert found == {"image without contrast, 8 bits stored in 16": (1, ["empty.png"])}


def test_boxes_below_a_pixel(hints_of):
    content = pets()
    content["annotations"][0]["bbox"] = [0.2, 0.3, 0.5, 0.9]
    assert hints_of(content)["boxes below a pixel"][0] == 1


def test_most_boxes_outside(hints_of):
    content = pets()
    for annotation in content["annotations"][:2]:
        annotation["bbox"] = [500, 400, 100, 200]
    assert hints_of(content)["most boxes are unusable"][0] == 2
