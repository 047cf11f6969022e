"""Each kind of fault planted is found, with its record; none is reported on clean data."""

import json

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode
from PIL import Image

from helpers.custom_data import pets, write_data_set
from helpers.odd_boxes import FORMATS, many_objects, written_as
from smca.data import DigitsSpec, register_digits
from smca.data_check import check_dataset
from smca.data_check.findings import NO_OBJECTS, REMEDIES, TOO_MANY_OBJECTS, wrong_format


def check(folder, content, **options):
    json_file, images = write_data_set(folder, content)
    options = {"workers": 0, "progress": False, **options}
    return check_dataset(str(json_file), image_root=str(images), **options)


def kinds(report) -> dict[str, int]:
    return {found.kind: found.count for found in report.findings}


def change(*path):
    """Set the value at the end of the path, in a fresh data set."""
    *parents, key, value = path

    def apply(content):
        node = content
        for part in parents:
            node = node[part]
        node[key] = value

    return apply


def append(part, **record):
    return lambda content: content[part].append({**content[part][0], **record})


def drop(part, index, key):
    return lambda content: content[part][index].pop(key)


def polygon_instead_of_box(index):
    def apply(content):
        del content["annotations"][index]["bbox"]
        content["annotations"][index]["segmentation"] = [[20, 5, 40, 5, 30, 25]]

    return apply


PLANTED = [
    ("malformed image", drop("images", 0, "width"), "image 0 (id 7) has no width"),
    ("malformed image", change("images", 1, "height", 0), "image 1 (id 9) has height 0"),
    ("malformed image", change("images", 1, "file_name", 3), "image 1 (id 9) has file_name 3"),
    ("malformed annotation", drop("annotations", 2, "bbox"), "annotation 2 (id 5) has no bbox"),
    ("malformed annotation", change("annotations", 2, "bbox", [1, 2, "x", 4]), "has bbox [1, 2,"),
    ("malformed annotation", change("annotations", 2, "bbox", [1, 2, 3]), "has bbox [1, 2, 3]"),
    (
        "number written as text",
        change("annotations", 2, "bbox", [1, 2, "3", 4]),
        "annotation 2 (id 5) has bbox",
    ),
    ("number written as text", change("images", 0, "width", "40"), "image 0 (id 7) has width '40'"),
    ("number written as text", change("annotations", 1, "iscrowd", "0"), "has iscrowd '0'"),
    ("id of another type", change("annotations", 1, "category_id", "3"), "has category_id '3'"),
    ("id of another type", change("annotations", 0, "image_id", "7"), "has image_id '7', where"),
    ("malformed annotation", change("annotations", 1, "category_id", "4"), "category_id '4'"),
    ("category name that is a number", change("categories", 1, "name", 7), "has name 7, which"),
    (
        "box of five numbers",
        change("annotations", 1, "bbox", [3, 1, 2, 3, 4]),
        "annotation 1 (id 2)",
    ),
    ("segmentation without box", polygon_instead_of_box(1), "annotation 1 (id 2) has no bbox, but"),
    ("malformed annotation", change("annotations", 1, 7), "annotation 1 (id None) is 7"),
    ("malformed annotation", change("annotations", 1, "iscrowd", 2), "has iscrowd 2"),
    ("malformed category", drop("categories", 0, "name"), "category 0 (id 40) has no name"),
    ("duplicate image id", append("images"), "image 3 (id 7) has the id of image 0"),
    ("duplicate category id", append("categories"), "category 3 (id 40) has the id of category 0"),
    ("category name used twice", append("categories", id=99), "'emu', here called 'emu (id 40)'"),
    (
        "unknown category",
        change("annotations", 0, "category_id", 5),
        "annotation 0 (id 1) has category_id 5",
    ),
    (
        "annotation of an unknown image",
        change("annotations", 0, "image_id", 8),
        "annotation 0 (id 1) has image_id 8",
    ),
    ("annotation without id", drop("annotations", 0, "id"), "annotation 0 (id None)"),
    ("duplicate annotation id", append("annotations"), "annotation 4 (id 1)"),
    (
        "box not finite",
        change("annotations", 0, "bbox", [1, float("nan"), 3, 4]),
        "annotation 0 (id 1) [1, nan, 3, 4] in a.png (40x32)",
    ),
    ("box not finite", change("annotations", 0, "bbox", [1, 1, 10**400, 4]), "[1, 1, inf, 4]"),
    ("box without area", change("annotations", 0, "bbox", [1, 1, 5, 0]), "annotation 0 (id 1)"),
    ("box without area", change("annotations", 0, "bbox", [9, 9, -5, 5]), "annotation 0 (id 1)"),
    ("box outside the image", change("annotations", 0, "bbox", [50, 1, 5, 5]), "annotation 0"),
    (
        "box partly outside the image",
        change("annotations", 0, "bbox", [-3, 1, 5, 5]),
        "annotation 0 (id 1)",
    ),
]


def test_a_clean_data_set_has_no_fault(tmp_path):
    report = check(tmp_path, pets())
    assert report.findings == []
    assert len(report.states) == 3
    s = report.statistics
    assert (s.images, s.empty_images, s.objects, s.crowds) == (3, 1, 3, 1)
    assert dict(zip(s.class_names, s.objects_of_class, strict=True)) == {
        "cat": 1, "dog": 1, "emu": 1,
    }  # fmt: skip


def test_the_digits_have_no_fault(tmp_path):
    register_digits(tmp_path, spec=DigitsSpec(train_images=30, val_images=20))
    try:
        for name in ("digits_train", "digits_val"):
            assert check_dataset(name, workers=2, progress=False).findings == []
    finally:
        register_digits()


@pytest.mark.parametrize(("kind", "plant", "words"), PLANTED)
def test_a_planted_fault_is_found_alone(tmp_path, kind, plant, words):
    content = pets()
    plant(content)
    report = check(tmp_path, content)
    # Without its category or image an annotation has none, which is reported, too.
    assert kinds(report).pop(kind) == 1
    others = set(kinds(report)) - {kind}
    assert others <= {"unknown category", "annotation of an unknown image"}
    (found,) = (found for found in report.findings if found.kind == kind)
    assert words in found.examples[0]
    assert found.fixable


@pytest.mark.parametrize("box_format", FORMATS, ids=str)
def test_boxes_of_another_format_are_recognised(tmp_path, box_format):
    assert kinds(check(tmp_path / "good", many_objects())) == {}
    report = check(tmp_path / "bad", written_as(many_objects(), box_format))
    kind = wrong_format(box_format)
    assert [k for k in kinds(report) if k.startswith("boxes look like")] == [kind]
    assert kinds(report)[kind] == 60


def test_careless_boxes_are_of_cocos_format(tmp_path):
    """They leave their images on all sides, as misread ones do on two; and a few boxes allow no verdict."""
    content, rng = many_objects(), np.random.default_rng(0)
    for annotation in content["annotations"]:
        x, y, w, h = annotation["bbox"]
        annotation["bbox"] = [x - rng.uniform(0, 4), y - rng.uniform(0, 4), w + 6, h + 6]
    assert set(kinds(check(tmp_path / "a", content))) == {"box partly outside the image"}
    content = pets()
    content["annotations"][0]["bbox"] = [0, 0, 1, 1]
    content["annotations"] = content["annotations"][:1]
    assert kinds(check(tmp_path / "b", content)) == {}


def test_what_is_normalised_without_a_corner_or_centre(tmp_path):
    content = many_objects()
    for annotation in content["annotations"]:
        annotation["bbox"] = [0.45, 0.45, 0.1, 0.1]
    (found, *_) = check(tmp_path, content).findings
    assert found.kind == "boxes look like numbers normalised to 0..1"
    assert (found.fixable, found.count) == (False, 60)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda content: content["annotations"].clear(), "the list 'annotations' is empty"),
        (lambda content: content.pop("annotations"), "the file has no list 'annotations'"),
        (
            lambda content: [a.update(iscrowd=1) for a in content["annotations"]],
            "all 4 objects are crowds",
        ),
    ],
)
def test_nothing_to_learn_from(tmp_path, spoil, words):
    content = pets()
    spoil(content)
    (found,) = check(tmp_path, content).findings
    assert (found.kind, found.fixable) == (NO_OBJECTS, False)
    assert words in found.examples[0]


def test_a_few_boxes_beyond_the_image_are_no_corners(tmp_path):
    content = pets()
    base = content["annotations"][0]
    content["annotations"] += [{**base, "id": 100 + i, "bbox": [9, 9, 3, 3]} for i in range(9)]
    content["annotations"] += [{**base, "id": 200 + i, "bbox": [30, 20, 35, 30]} for i in range(5)]
    found = kinds(check(tmp_path, content))
    assert found == {"box partly outside the image": 5}


def test_more_objects_than_queries(tmp_path):
    content = pets()
    report = check(tmp_path, content, num_queries=1)
    (found,) = report.findings
    assert (found.kind, found.count, found.fixable) == (TOO_MANY_OBJECTS, 1, False)
    assert "image (id 7) a.png has 2 objects" in found.examples[0]
    assert "model.decoder.num_queries" in found.remedy


@pytest.mark.parametrize("workers", [0, 2])
def test_image_files(tmp_path, workers):
    json_file, images = write_data_set(tmp_path)
    (images / "a.png").unlink()
    whole = (images / "b.jpg").read_bytes()
    (images / "b.jpg").write_bytes(whole[: len(whole) // 2])
    report = check_dataset(str(json_file), image_root=str(images), workers=workers, progress=False)
    assert kinds(report) == {"missing image file": 1, "unreadable image file": 1}
    assert "truncated" in report.findings[1].examples[0]


def test_values_that_nothing_can_show_are_unreadable(tmp_path):
    json_file, images = write_data_set(tmp_path)
    Image.fromarray(np.full((32, 40), 300, np.float32)).save(images / "a.png", format="TIFF")
    report = check_dataset(str(json_file), image_root=str(images), workers=0, progress=False)
    assert kinds(report) == {"unreadable image file": 1}
    assert "floating-point values beyond [0, 1]" in report.findings[0].examples[0]


def test_no_image_at_all_behind_the_name(tmp_path):
    json_file, images = write_data_set(tmp_path)
    (images / "a.png").write_bytes(b"no picture")
    report = check_dataset(str(json_file), image_root=str(images), workers=0, progress=False)
    assert kinds(report) == {"unreadable image file": 1}


def test_sizes_are_those_after_the_exif_rotation(tmp_path):
    """As Detectron2 reads them: stated turned is right, stated as stored is not."""
    content = pets()
    json_file, images = write_data_set(tmp_path, content)
    pixels = np.zeros((48, 33, 3), np.uint8)
    image = Image.fromarray(pixels.transpose(1, 0, 2).copy())
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(images / "b.jpg", exif=exif)
    assert (
        check_dataset(str(json_file), image_root=str(images), workers=0, progress=False).findings
        == []
    )
    content["images"][1].update(width=48, height=33)
    json_file.write_text(json.dumps(content))
    report = check_dataset(str(json_file), image_root=str(images), workers=0, progress=False)
    (found,) = (f for f in report.findings if f.kind == "image of another size")
    assert "is 33x48, turned by its EXIF data, stated as 48x33" in found.examples[0]


def test_without_images_no_file_is_opened(tmp_path):
    json_file, _ = write_data_set(tmp_path)
    report = check_dataset(str(json_file), images=False)
    assert (report.findings, report.states) == ([], [])


def test_a_data_set_of_the_users_own_code(tmp_path):
    _, images = write_data_set(tmp_path)
    dicts = [
        {
            "file_name": str(images / "a.png"),
            "width": 40,
            "height": 32,
            "annotations": [
                {"bbox": [1, 1, 30, 30], "bbox_mode": BoxMode.XYXY_ABS, "category_id": 1},
                {"bbox": [5, 5, 0, 3], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 0},
            ],
        }
    ]
    name = "smca_test_checked"
    DatasetCatalog.register(name, lambda: dicts)
    MetadataCatalog.get(name).thing_classes = ["cat", "dog"]
    try:
        report = check_dataset(name, workers=0, progress=False)
    finally:
        DatasetCatalog.pop(name)
        MetadataCatalog.pop(name)
    assert kinds(report) == {"box without area": 1}
    assert report.json_file is None


@pytest.mark.parametrize(
    ("dataset", "words"),
    [
        ("nowhere.json", "neither a file nor a registered data set"),
        ("coco_2017_train", "instances_train2017.json does not exist; put it there"),
    ],
)
def test_what_cannot_be_checked(dataset, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=words):
        check_dataset(dataset, images=False)


def test_every_remedy_is_planted_somewhere():
    here = {kind for kind, *_ in PLANTED} | {
        *(wrong_format(box_format) for box_format in FORMATS),
        "missing image file",
        "unreadable image file",
        "image of another size",
    }
    assert set(REMEDIES) == here
