"""Which boxes and images are trained on, evaluated on and counted."""

import dataclasses

import numpy as np
import pytest

from helpers.custom_data import pets
from helpers.odd_boxes import many_objects, written_as
from smca.data.checks.box_faults import clip_boxes, find_box_faults
from smca.data.checks.box_format import BoxFormat, Layout
from smca.data.sources.coco_records import parse_coco
from smca.data.sources.usable_dataset import same_aspect, select_usable


def prepared(content, actual=None):
    tables = parse_coco(content).tables
    sizes = None if actual is None else np.array(actual, dtype=np.float64)
    return select_usable("pets", tables, tables.file_names, sizes)


@pytest.mark.parametrize(
    ("box", "fault", "clipped"),
    [
        ([0, 0, 40, 32], None, [0, 0, 40, 32]),
        ([0.1, 0.2, 39.9, 31.8], None, [0.1, 0.2, 39.9, 31.8]),
        ([-0.5, 0, 10, 10], None, [0, 0, 9.5, 10]),
        ([-5, -6, 20, 20], "partly_outside", [0, 0, 15, 14]),
        ([30, 20, 100, 100], "partly_outside", [30, 20, 10, 12]),
        ([1e308, 1, 1e308, 5], "outside", None),
        ([-1e308, -1e308, 1.7e308, 1.7e308], "partly_outside", [0, 0, 40, 32]),
        ([40, 0, 5, 5], "outside", None),
        ([-5, 0, 5, 5], "outside", None),
        ([5, 5, 0, 5], "without_area", None),
        ([5, 5, -2, -2], "without_area", None),
        ([np.nan, 0, 1, 1], "not_finite", None),
        ([0, 0, np.inf, 1], "not_finite", None),
    ],
)
def test_each_box(box, fault, clipped):
    boxes, sizes = np.array([box], dtype=np.float64), np.array([[40.0, 32.0]])
    faults = find_box_faults(boxes, sizes)
    assert [name for name in faults._fields if getattr(faults, name)[0]] == [fault] * bool(fault)
    assert faults.unusable[0] == (clipped is None)
    if clipped is not None:
        assert clip_boxes(boxes, sizes)[0].tolist() == clipped


def test_valid_boxes_are_those_of_the_file_bit_for_bit():
    content = pets()
    content["annotations"][0]["bbox"] = [0.1, 0.7, 1 / 3, 2 / 7]
    records = prepared(content).records()
    assert records[0]["annotations"][0]["bbox"] == [0.1, 0.7, 1 / 3, 2 / 7]
    assert [r["image_id"] for r in records] == [7, 9, 12]
    assert [len(r["annotations"]) for r in records] == [2, 2, 0]
    assert [a["iscrowd"] for a in records[1]["annotations"]] == [0, 1]


def test_what_was_left_out_is_counted_in_one_line():
    content = pets()
    base = content["annotations"][0]
    boxes = [[1, 1, 0, 5], [1, 1, 5, -1], [50, 50, 2, 2], [float("inf"), 1, 2, 2], [-9, 1, 20, 9]]
    content["annotations"] += [{**base, "id": 50 + i, "bbox": box} for i, box in enumerate(boxes)]
    content["annotations"].append({**base, "id": 90, "image_id": 1000})
    assert prepared(content).summary() == (
        "pets: 3 images (1 without objects), 4 objects of 3 classes; dropped: 1 box not finite, "
        "2 boxes without area, 1 box outside the image, 1 box of no image, 1 crowd; clipped: 1 box"
    )


def test_a_resized_image_has_its_boxes_scaled():
    dataset = prepared(pets(), [(20, 16), (33, 48), (36, 36)])
    first = dataset.records()[0]
    assert (first["width"], first["height"]) == (20, 16)
    assert [a["bbox"] for a in first["annotations"]] == [[0.5, 1, 7.5, 8.25], [10, 2.5, 10, 10]]
    assert dataset.tables.boxes[0].tolist() == [0.5, 1, 7.5, 8.25]
    assert dataset.tables.areas.tolist() == [50, 100, 1000, 1584]
    assert dataset.summary().endswith("scaled: boxes of 1 image of another size than stated")


def test_width_and_height_have_factors_of_their_own():
    """641x481 made 320x240: rounding makes them differ."""
    content = pets()
    content["images"][0].update(width=641, height=481)
    content["annotations"][0].update(bbox=[64.1, 48.1, 320.5, 240.5], area=641 * 481)
    dataset = prepared(content, [(320, 240), (33, 48), (36, 36)])
    box = dataset.records()[0]["annotations"][0]["bbox"]
    assert box == pytest.approx([32, 24, 160, 120], abs=1e-9)
    assert dataset.tables.boxes[0].tolist() == box
    assert dataset.tables.areas[0] == pytest.approx(320 * 240)


def test_an_image_of_another_shape_is_left_out_and_none_left_is_an_error():
    dataset = prepared(pets(), [(32, 40), (33, 48), (36, 36)])
    assert [r["image_id"] for r in dataset.records()] == [9, 12]
    assert "dropped: 1 image of another shape, 1 crowd" in dataset.summary()
    with pytest.raises(ValueError, match=r"a\.png: 32x40 instead of 40x32"):
        prepared(pets(), [(32, 40), (48, 33), (30, 40)])


@pytest.mark.parametrize(
    ("stated", "actual", "same"),
    [
        ((640, 480), (320, 240), True),
        ((641, 481), (320, 240), True),
        ((1000, 30), (333, 10), True),
        ((640, 480), (480, 640), False),
        ((640, 480), (640, 400), False),
        ((640, 480), (640, 479), True),
    ],
)
def test_same_aspect(stated, actual, same):
    assert same_aspect(np.array([stated], float), np.array([actual], float)).tolist() == [same]


def test_corners_and_no_objects_are_warned_about():
    content = pets()
    content["annotations"] = []
    assert prepared(content).warnings() == ["pets has no object to learn from"]
    content = pets()
    base = content["annotations"][1]
    content["annotations"] = [{**base, "id": i, "bbox": [20, 5, 40, 25]} for i in range(5)]
    assert "look like (x1, y1, x2, y2)" in prepared(content).warnings()[0]
    assert prepared(pets()).warnings() == []


def test_boxes_of_another_format():
    """Centres are warned about, shares of the image are refused: nothing could be learned from them."""
    centres = BoxFormat(Layout.CENTRES)
    assert prepared(many_objects()).warnings() == []
    (warning,) = prepared(written_as(many_objects(), centres)).warnings()
    assert "look like (centre x, centre y, width, height), but COCO's are" in warning
    for layout in Layout:
        with pytest.raises(ValueError, match=r"normalised to 0\.\.1, but COCO's are .* in pixels"):
            prepared(written_as(many_objects(), BoxFormat(layout, normalised=True)))


def test_formats_of_images_of_unknown_size():
    """As a user's own code may return them; the files tell the sizes."""
    content = written_as(many_objects(), BoxFormat(Layout.CENTRES, normalised=True))
    tables = parse_coco(content).tables
    actual = tables.sizes
    unknown = dataclasses.replace(tables, sizes=np.full_like(actual, np.inf))
    said = select_usable("pets", unknown, tables.file_names).warnings()
    assert len(said) == 1
    assert "60 of 60 boxes are smaller than a pixel on both sides" in said[0]
    with pytest.raises(ValueError, match="normalised"):
        select_usable("pets", unknown, tables.file_names, actual)


def with_boxes(change) -> dict:
    """60 objects, every third box changed by a function of it and its image."""
    content = many_objects()
    images = {image["id"]: image for image in content["images"]}
    for annotation in content["annotations"][::3]:
        image = images[annotation["image_id"]]
        annotation["bbox"] = change(annotation["bbox"], image["width"], image["height"])
    return content


def test_a_warning_if_some_boxes_are_normalised():
    content = with_boxes(lambda box, w, h: [box[0] / w, box[1] / h, box[2] / w, box[3] / h])
    (said,) = prepared(content).warnings()
    assert "pets: 20 of 60 boxes are smaller than a pixel on both sides" in said


def test_a_warning_if_most_boxes_cannot_be_used():
    content = many_objects()
    assert prepared(content).warnings() == []
    for annotation in content["annotations"][:31]:
        annotation["bbox"] = [v + 1000 for v in annotation["bbox"]]
    (said,) = prepared(content).warnings()
    assert "pets: 31 of 60 boxes lie outside their images or have no area" in said
    content["annotations"] = content["annotations"][1:]
    content["annotations"].pop(0)
    assert prepared(content).warnings() == []
