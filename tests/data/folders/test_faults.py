"""What is wrong with a folder of YOLO or Pascal VOC is one sentence with file and line; the check lists all of it."""

import os
import shutil
from pathlib import Path

import pytest
from PIL import Image

from helpers.custom_data import write_data_set
from helpers.other_formats import write_voc, write_yolo
from smca.data import load_custom_dataset
from smca.data.folders.xml_tree import parse_xml
from smca.data.folders.yolo import label_file
from smca.data.sources.coco_source import find_source
from smca.data_check import check_dataset, fix_dataset


@pytest.fixture
def yolo(tmp_path) -> Path:
    return write_yolo(tmp_path / "yolo", {"train": write_data_set(tmp_path, name="y")}).parent


@pytest.fixture
def voc(tmp_path) -> Path:
    return write_voc(tmp_path / "voc", {"train": write_data_set(tmp_path)})


def load(path, **options) -> list[dict]:
    options = {"image_root": None, "field": "data.train", **options}
    return load_custom_dataset("smca_test_folder", json_file=str(path), **options)


def error_of(path, **options) -> str:
    with pytest.raises(ValueError, match=r"\w") as error:
        load(path, **options)
    message = str(error.value)
    assert "\n" not in message
    return message


def check(path, **options):
    return check_dataset(str(path), workers=0, progress=False, **options)


def kinds(report) -> dict[str, int]:
    return {found.kind: found.count for found in report.findings}


LINES = [
    ("0 0.5 0.5 0.2", "has 4 numbers instead of a class and a box (5)"),
    ("0 0.5 0.5 0.2 0.2 0.9", "is the last one a score? These are predictions"),
    ("0 1.5 0.5 0.2 0.2", "has 1.5, but boxes are in shares of the image, 0 to 1"),
    ("0 -0.5 0.5 0.2 0.2", "has -0.5, but boxes are in shares"),
    ("0 nan 0.5 0.2 0.2", "has nan, but boxes are in shares"),
    ("0 120 50 30 20", "has 120, but boxes are in shares"),
    ("3 0.5 0.5 0.2 0.2", "has class 3, but names in data.yaml has 3 classes (0 to 2)"),
    ("7 0.5 0.5 0.2 0.2", "has class 7, but names in data.yaml has 3 classes (0 to 2)"),
    ("-1 0.5 0.5 0.2 0.2", "has class -1, but names in data.yaml has 3 classes (0 to 2)"),
    ("0.5 0.5 0.5 0.2 0.2", "has class 0.5, which is no whole number"),
    ("cat 0.5 0.5 0.2 0.2", "has 'cat 0.5 0.5 0.2 0.2' instead of numbers"),
    ("0,0.5,0.5,0.2,0.2", "instead of numbers with blanks between them"),
    ("0 0.1 0.1 0.2 0.2 0.3 0.3 0.4", "has 8 numbers instead of a class and a box (5), or a class and a polygon"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "words"), LINES)
def test_a_bad_line_is_named(yolo, line, words):
    path = yolo / "labels" / "train" / "a.txt"
    path.write_text(f"\ufeff1 0.5 0.5 0.25 0.25\r\n\r\n{line}\r\n", encoding="utf-8")
    message = error_of(yolo)
    assert "labels/train/a.txt, line 3: " in message
    assert words in message
    report = check(yolo)
    (fault,) = (f for f in report.findings if f.fixable)
    assert words in fault.examples[0]
    assert fault.count == 1


def test_all_faults_are_listed_and_fix_leaves_them_out(yolo, tmp_path):
    labels = yolo / "labels" / "train"
    (labels / "a.txt").write_text(
        "0 2 2 2 2\n1 0.5 0.5 0.2 0.2\n9 0.5 0.5 0.5 0.5\n1 0.5 0.5 0 0.5\n"
    )
    (labels / "b.txt").write_bytes(b"\xff\xfe\x00")
    images = yolo / "images" / "train"
    (images / "empty.png").write_bytes(b"no image")
    shutil.copy(images / "a.png", images / "a.JPG")
    report = check(yolo)
    assert kinds(report) == {
        "malformed image": 1,
        "malformed annotation": 1,
        "unknown category": 1,
        "duplicate image id": 1,
        "unreadable image file": 1,
        "box without area": 1,
    }
    said = [example for found in report.findings for example in found.examples]
    assert any("labels/train/b.txt: it is no text in UTF-8" in text for text in said)
    assert any("images/train/a.png: its labels are labels/train/a.txt, which" in t for t in said)
    assert any(text.startswith("labels/train/a.txt, line 4 [") for text in said)
    changes = fix_dataset(report, str(tmp_path / "fixed.json"))
    assert "1 records left out: malformed annotation" in changes
    assert "1 boxes left out: without area" in changes
    fixed = check(tmp_path / "fixed.json", image_root=str(yolo))
    assert fixed.findings == []
    assert fixed.statistics.objects == 1


def test_polygons_become_boxes_and_that_is_said(yolo):
    path = yolo / "labels" / "train" / "a.txt"
    path.write_text("1 0.25 0.25 0.75 0.25 0.5 0.75\n")
    records = load(yolo)
    assert records[0]["annotations"][0]["bbox"] == [10.0, 8.0, 20.0, 16.0]
    said = find_source("smca_test_folder").load().warnings()
    assert said == [
        "smca_test_folder: polygons (segmentation), of which the boxes around them are read: 1 lines"
    ]
    assert [h.kind for h in check(yolo).hints] == ["how it was read", "class without objects"]


def test_labels_without_image_are_a_hint(yolo):
    (yolo / "labels" / "train" / "gone.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    report = check(yolo)
    assert report.findings == []
    assert report.hints[0].examples == [
        "files of labels without an image, left out: 1, the first is labels/train/gone.txt"
    ]


YAMLS = [
    ("names: [a, b, c]\n", "has no split 'train' (it has: none)"),
    ("train: images/train\n", "has no 'names' of classes"),
    ("train: images/train\nnames: [a, {b: 1}, c]\n", "class 1 of names has no name"),
    ("train: images/train\nnames: {0: a, 2: b}\n", "the keys of names must be the numbers 0 to 1"),
    ("train: images/train\nnc: 4\nnames: [a, b, c]\n", "nc is '4', but names has 3 classes"),
    ("train: images/train\nkpt_shape: [17, 3]\nnames: [a]\n", "is of a data set for poses"),
    ("train: nowhere\nnames: [a]\n", "the images of 'train' are not there, looked for"),
    ("path: /nowhere\ntrain: nowhere\nnames: [a]\n", "correct its 'path' or move the data set to it"),
    ("train: labels\nnames: [a]\n", "there is no image in 'train', which is labels"),
    ("train: [\n", "is no yaml in UTF-8 (line 2)"),
    ("train: images/train/a.png\nnames: [a]\n", "but a folder or a list of images is needed"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "words"), YAMLS)
def test_a_bad_yaml_is_named(yolo, text, words):
    (yolo / "data.yaml").write_text(text)
    message = error_of(yolo)
    assert str(yolo / "data.yaml") in message
    assert words in message


def test_nested_aliases_of_a_yaml_do_no_harm(yolo):
    """Ten levels of ten references each would be ten thousand million names."""
    levels = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 11))
    (yolo / "data.yaml").write_text(f"a0: &a0 [x]\n{levels}train: images/train\nnames: *a10\n")
    assert "class 0 of names has no name" in error_of(yolo)


def test_names_stay_the_text_they_are(yolo):
    """YAML would make False, 8, 1.5 and nothing of them."""
    yaml = yolo / "data.yaml"
    yaml.write_text("train: images/train\nnames: [no, 010, 1.5, ~]\n")
    load(yolo)
    assert find_source("smca_test_folder").read_truth().class_names == ["no", "010", "1.5", "~"]


def test_other_ways_to_name_the_images(yolo, tmp_path, monkeypatch):
    """Lists with a byte order mark and Windows' line ends and paths; Roboflow's ../train; capital endings."""
    expected = load(yolo)
    images = yolo / "images" / "train"
    (yolo / "list.txt").write_text(
        "\ufeffimages\\train\\a.png\r\n./images/train/b.jpg\r\n\r\n" + str(images / "empty.png"),
        encoding="utf-8",
    )
    yaml = yolo / "data.yaml"
    for place in ("list.txt", "[images/train]", "images\\train", "../images/train", "./images"):
        yaml.write_text(f"train: {place}\nnames: [cat, dog, emu]\n")
        assert load(yaml) == expected, place
    yaml.write_text("path: yolo\ntrain: images/train\nval: images/train\nnames: [cat, dog, emu]\n")
    monkeypatch.chdir(tmp_path)
    assert [r["annotations"] for r in load(yaml)] == [r["annotations"] for r in expected]
    (images / "b.jpg").rename(images / "b.JPG")
    assert [r["annotations"] for r in load(yaml)] == [r["annotations"] for r in expected]


def test_images_that_are_not_there(yolo, voc):
    (yolo / "list.txt").write_text("images/train/a.png\nimages/train/gone.png\n")
    (yolo / "data.yaml").write_text("train: list.txt\nnames: [cat, dog, emu]\n")
    message = error_of(yolo)
    assert "list.txt, line 2: " in message
    assert "images/train/gone.png does not exist" in message
    assert kinds(check(yolo)) == {"missing image file": 1}
    (voc / "JPEGImages" / "b.jpg").unlink()
    assert "1 of 3 image files of smca_test_folder are missing, the first is" in error_of(voc)
    assert kinds(check(voc)) == {"missing image file": 1}


def test_no_labels_at_all(yolo):
    shutil.rmtree(yolo / "labels")
    message = error_of(yolo)
    assert "none of the 3 images of 'train' has a file of labels" in message
    assert str(yolo / "labels" / "train" / "a.txt") in message


def test_images_of_a_yolo_data_set_are_named_by_its_yaml(yolo):
    message = error_of(yolo, image_root=str(yolo / "images"))
    assert message.startswith("data.train_images has no use: where images are stands in ")


OBJECT = "<annotation><size><width>40</width><height>32</height></size>\n<object>{}</object></annotation>"
BOX = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax>{}</bndbox>"
TREES = [
    ("<annotation><object></annotation>", ": line 1: it is no XML (mismatched tag)"),
    ("", ": it is empty"),
    ("<html></html>", ": it is no annotation of Pascal VOC: it begins with 'html'"),
    ('<?xml version="1.0"?>\n<!DOCTYPE a [<!ENTITY x "y">]><annotation/>', "line 2 declares a document type"),
    ("<a>" * 100, "its elements are nested too deeply"),
    ('<?xml version="1.0" encoding="nonsense"?><annotation/>', "no XML"),
    (OBJECT.format(BOX.format("<ymax>9</ymax>")), ", line 2: its object has no name"),
    (OBJECT.format("<name>cat</name>"), ", line 2: its 'cat' has no bndbox"),
    (OBJECT.format("<name>cat</name>" + BOX.format("")), ", line 2: its 'cat' has no ymax"),
    (OBJECT.format("<name>cat</name>" + BOX.format("<ymax>nan</ymax>")), "has ymax 'nan', which is no number"),
    (OBJECT.format("<name>cat</name>" + BOX.format("<ymax>1_0</ymax>")), "has ymax '1_0', which is no number"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "words"), TREES)
def test_a_bad_annotation_is_named(voc, text, words):
    (voc / "Annotations" / "a.xml").write_text(text)
    message = error_of(voc)
    assert "Annotations/a.xml" in message
    assert words in message
    assert sum(kinds(check(voc)).values()) == 1


def test_an_entity_bomb_is_not_opened():
    """A megabyte of references to a megabyte would be a terabyte."""
    bomb = f'<!DOCTYPE a [<!ENTITY x "{"y" * 1000}">]><annotation>{"&x;" * 1000}</annotation>'
    with pytest.raises(ValueError, match="line 1 declares a document type"):
        parse_xml(bomb.encode())
    outside = '<!DOCTYPE a SYSTEM "file:///etc/passwd"><annotation/>'
    with pytest.raises(ValueError, match="declares a document type"):
        parse_xml(outside.encode())


def test_splits_of_voc(voc):
    lists = voc / "ImageSets" / "Main"
    message = error_of(voc, field="data.val")
    assert "has no split 'val': there is no " in message
    assert "(there are: train)" in message
    (lists / "cat_val.txt").write_text("\ufeffa  1\r\nb -1\r\n", encoding="utf-8")
    assert len(load(voc, split="cat_val")) == 2
    (lists / "train.txt").write_text("a.png\nb\na\ngone\n")
    report = check(voc)
    said = [example for found in report.findings for example in found.examples]
    assert "ImageSets/Main/train.txt, line 3: a stands in line 1, too" in said
    assert "ImageSets/Main/train.txt, line 4: gone has no annotation Annotations/gone.xml" in said


def test_classes_of_voc(voc):
    """Sorted as they are found, or in the order of a list, which must have all."""
    records = load(voc)
    assert [a["category_id"] for r in records for a in r["annotations"]] == [1, 0, 2, 0]
    (voc / "labels.txt").write_text("emu\r\ndog\r\ncat\r\n")
    records = load(voc)
    assert [a["category_id"] for r in records for a in r["annotations"]] == [1, 2, 0, 2]
    (voc / "labels.txt").write_text("emu\ndog\n")
    message = error_of(voc)
    assert "Annotations/a.xml, line " in message
    assert "its object is a 'cat', which the list of classes does not have" in message
    (voc / "labels.txt").unlink()
    (voc / "labelmap.txt").write_text(
        "# label:color_rgb:parts:actions\nbackground:0,0,0::\nemu:1,2,3::\ncat:1,2,4::\ndog:::\n"
    )
    load(voc)
    assert find_source("smca_test_folder").read_truth().class_names == ["emu", "cat", "dog"]


def test_an_annotation_goes_with_the_image_of_its_name(voc):
    """Tools leave old names, other computers' paths, no size or one of 0 in the file."""
    expected = load(voc)
    path = voc / "Annotations" / "a.xml"
    text = path.read_text()
    changed = text.replace("a.png", "C:\\data\\old.jpg").replace("<width>40", "<width>0")
    path.write_text(changed, encoding="utf-16")
    assert load(voc) == expected
    (voc / "Annotations" / "b.xml").rename(voc / "Annotations" / "c.XML")
    shutil.move(voc / "ImageSets", voc.parent)
    assert [len(r["annotations"]) for r in load(voc)] == [2, 2, 0]
    Image.new("RGB", (40, 32)).save(voc / "JPEGImages" / "a.jpg")
    assert "it may be of a.jpg or a.png: its filename must say which" in error_of(voc)


def test_images_beside_their_annotations(voc, tmp_path):
    """As Roboflow exports Pascal VOC."""
    expected = load(voc)
    together = tmp_path / "together"
    shutil.copytree(voc / "JPEGImages", together)
    for path in (voc / "Annotations").iterdir():
        shutil.copy(path, together)
    assert [r["annotations"] for r in load(together)] == [r["annotations"] for r in expected]


def test_folders_behind_links_are_read_once(yolo, tmp_path):
    images, labels = yolo / "images" / "train", yolo / "labels" / "train"
    (tmp_path / "elsewhere").mkdir()
    shutil.move(images / "a.png", tmp_path / "elsewhere" / "a.png")
    (labels / "more").mkdir()
    shutil.move(labels / "a.txt", labels / "more" / "a.txt")
    (images / "more").symlink_to(tmp_path / "elsewhere")
    (images / "circle").symlink_to(images)
    names = [Path(record["file_name"]).name for record in load(yolo)]
    assert sorted(names) == ["a.png", "b.jpg", "empty.png"]


def test_what_is_no_file_is_not_waited_for(yolo, voc):
    label, annotation = yolo / "labels" / "train" / "a.txt", voc / "Annotations" / "a.xml"
    for path in (label, annotation):
        path.unlink()
        os.mkfifo(path)
    assert "labels/train/a.txt: it is no file" in error_of(yolo)
    assert "Annotations/a.xml: it is no file" in error_of(voc)


def test_a_name_with_a_zero_byte_is_a_missing_image(yolo):
    (yolo / "list.txt").write_text("images/train/a.png\nim\0.png\n")
    (yolo / "data.yaml").write_text("train: list.txt\nnames: [cat, dog, emu]\n")
    assert "list.txt, line 2: " in error_of(yolo)


def test_why_no_annotation_can_be_read(voc):
    for path in (voc / "Annotations").iterdir():
        path.write_text("")
    assert "Annotations/a.xml: it is empty" in error_of(voc)


def test_the_last_folder_of_images_has_the_labels_beside_it():
    assert label_file("/my/images/of/images/train/a.b.jpg") == "/my/images/of/labels/train/a.b.txt"
    assert label_file("/my/photos/a.jpg") == "/my/photos/a.txt"


def test_a_folder_with_endings_in_capitals_is_one_of_voc(voc, tmp_path):
    together = tmp_path / "together"
    shutil.copytree(voc / "JPEGImages", together)
    for path in (voc / "Annotations").iterdir():
        shutil.copy(path, together / f"{path.stem}.XML")
    assert len(load(together)) == 3
