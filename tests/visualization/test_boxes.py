import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, Instances

from smca.visualization.boxes import class_color, paint_boxes
from smca.visualization.detections import paint_detections


def found(size, *rows):
    boxes, classes, scores = zip(*rows, strict=True) if rows else ((), (), ())
    return Instances(
        size,
        pred_boxes=Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)),
        scores=torch.tensor(scores, dtype=torch.float32),
        pred_classes=torch.tensor(classes, dtype=torch.int64),
    )


def is_color(drawn, class_id):
    return (drawn == class_color(class_id)).all(-1)


def test_the_box_is_where_it_belongs_in_its_class_color():
    image = np.full((200, 300, 3), 40, np.uint8)
    drawn = paint_detections(image, found((200, 300), ([50, 80, 150, 160], 1, 0.5)), ["a", "b"])
    assert drawn.shape == image.shape
    assert (image == 40).all()
    mask = is_color(drawn, 1)
    assert mask[80:161, 50].all()
    assert mask[80:161, 150].all()
    assert mask[160, 50:151].all()
    # Inside it is as it was; the label is above.
    assert (drawn[90:150, 60:140] == 40).all()
    assert mask[60:80].any()
    assert (drawn[161:] == 40).all()


@pytest.mark.parametrize(
    "box",
    [[0, 0, 40, 20], [0, 0, 300, 200], [280, 100, 300, 200], [-9, -9, 400, 300], [5, 5, 5, 5]],
)
def test_the_label_stays_in_the_image(box):
    image = np.zeros((200, 300, 3), np.uint8)
    short = paint_detections(image, found((200, 300), (box, 0, 0.9)), ["a"])
    long = paint_detections(image, found((200, 300), (box, 0, 0.9)), ["a name of many letters"])
    assert is_color(long, 0).sum() > is_color(short, 0).sum() + 500


def test_the_best_is_on_top():
    image = np.zeros((100, 100, 3), np.uint8)
    box = [20, 40, 80, 90]
    drawn = paint_detections(image, found((100, 100), (box, 0, 0.9), (box, 1, 0.8)))
    assert is_color(drawn, 0)[40:91, 20].all()


def test_a_box_of_the_whole_image_shows_on_all_sides():
    drawn = paint_detections(
        np.zeros((100, 60, 3), np.uint8), found((100, 60), ([0, 0, 60, 100], 0, 0.5))
    )
    mask = is_color(drawn, 0)
    assert mask[:, 0].all()
    assert mask[:, -1].all()
    assert mask[-1].all()


def test_colors_differ():
    colors = np.array([class_color(class_id) for class_id in range(12)], dtype=float)
    distances = np.abs(colors[:, None] - colors[None]).sum(-1) + 999 * np.eye(12)
    assert distances.min() > 25
    assert colors.max(1).min() == 255


def test_odd_class_names():
    image = np.zeros((200, 300, 3), np.uint8)
    rows = [([50, 80, 150, 160], number, 0.5) for number in range(4)]
    names = ["two\nlines", "größe", "", "鳥"]
    assert paint_detections(image, found((200, 300), *rows), names).any()


@pytest.mark.parametrize("scale", [0.5, 1, 2.5])
def test_boxes_scale_with_the_image(scale):
    image = np.zeros((200, 300, 3), np.uint8)
    drawn = paint_boxes(image, [[100, 80, 200, 160]], [""], [(255, 0, 0)], scale=scale)
    assert drawn.shape == (200 * scale, 300 * scale, 3)
    rows, columns = np.nonzero(drawn[..., 0] == 255)
    ends = [columns.min(), rows.min(), columns.max(), rows.max()]
    np.testing.assert_allclose(ends, np.array([100, 80, 200, 160]) * scale, atol=0.5)


def test_a_box_whose_ends_are_exchanged():
    image, red = np.zeros((90, 90, 3), np.uint8), [(255, 0, 0)]
    there = paint_boxes(image, [[20, 30, 60, 80]], [""], red)
    np.testing.assert_array_equal(paint_boxes(image, [[60, 80, 20, 30]], [""], red), there)
