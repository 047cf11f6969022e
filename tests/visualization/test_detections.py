import numpy as np
import pytest
import torch
from detectron2.data.catalog import Metadata
from detectron2.structures import Boxes, BoxMode, Instances

from smca.visualization import draw_detections
from smca.visualization.detections import _CAPTION_HEIGHT, _GAP

HEIGHT, WIDTH = 60, 80
COLORS = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]


@pytest.fixture
def metadata():
    return Metadata(name="colours", thing_classes=["red", "green", "blue"], thing_colors=COLORS)


def predictions(boxes, scores, classes):
    return Instances(
        (HEIGHT, WIDTH),
        pred_boxes=Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)),
        scores=torch.tensor(scores),
        pred_classes=torch.tensor(classes, dtype=torch.int64),
    )


def draw(metadata, predicted, annotations=(), *, image=None, **options):
    image = np.full((HEIGHT, WIDTH, 3), 90, np.uint8) if image is None else image
    return draw_detections(image, predicted, annotations, metadata, **options)


def halves(picture):
    """The two pictures without caption and gap."""
    width = (picture.shape[1] - _GAP) // 2
    body = picture[_CAPTION_HEIGHT:].astype(int)
    return body[:, :width], body[:, width + _GAP :]


def box_of(half, channel):
    """Corners (x0, y0, x1, y1) of the long coloured lines, which leaves labels out."""
    others = [c for c in range(3) if c != channel]
    colored = (half[..., channel] > 200) & (half[..., others].max(-1) < 60)
    columns = np.flatnonzero(colored.sum(0) > 20)
    rows = np.flatnonzero(colored.sum(1) > 100)
    return None if len(rows) == 0 else (columns[0], rows[0], columns[-1], rows[-1])


def test_small_images_are_enlarged_and_large_ones_are_not(metadata):
    nothing = predictions([], [], [])
    picture = draw(metadata, nothing, min_side=400)
    assert picture.dtype == np.uint8
    assert picture.shape == (300 + _CAPTION_HEIGHT, 2 * 400 + _GAP, 3)
    picture = draw(metadata, nothing, min_side=70)
    assert picture.shape == (HEIGHT + _CAPTION_HEIGHT, 2 * WIDTH + _GAP, 3)


def test_boxes_are_where_they_belong(metadata):
    annotations = [
        {"bbox": [10, 20, 40, 30], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 0},
    ]
    predicted = predictions([[20.0, 16.0, 70.0, 40.0]], [0.9], [2])
    left, right = halves(draw(metadata, predicted, annotations, min_side=400))
    # Enlarged five times; a line is a few pixels wide.
    np.testing.assert_allclose(box_of(left, 0), [50, 100, 250, 250], atol=4)
    np.testing.assert_allclose(box_of(right, 2), [100, 80, 350, 200], atol=4)
    assert box_of(left, 2) is None
    assert box_of(right, 0) is None


def test_channels_are_not_swapped(metadata):
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    image[:] = (200, 100, 20)
    for half in halves(draw(metadata, predictions([], [], []), image=image)):
        np.testing.assert_allclose(half[half.shape[0] // 2, half.shape[1] // 2], [200, 100, 20])


def test_predictions_below_the_threshold_are_left_out(metadata):
    boxes = [[5.0, 20.0, 35.0, 50.0], [45.0, 20.0, 75.0, 50.0]]
    predicted = predictions(boxes, [0.29, 0.31], [0, 1])
    _, right = halves(draw(metadata, predicted, min_side=400, score_threshold=0.3))
    assert box_of(right, 0) is None
    assert box_of(right, 1) is not None
    _, right = halves(draw(metadata, predicted, min_side=400, score_threshold=0.2))
    assert box_of(right, 0) is not None


def test_labels_stay_inside_the_picture(metadata):
    """Objects in all four corners and a class without a name; what sticks out is clipped."""
    boxes = [[-5.0, -5.0, 9.0, 9.0], [72.0, -3.0, 90.0, 8.0], [70.0, 50.0, 85.0, 66.0]]
    unnamed = Metadata(name="unnamed")
    picture = draw(unnamed, predictions(boxes, [0.5, 0.6, 0.7], [0, 1, 7]), min_side=400)
    _, right = halves(picture)
    # Letters are black, which a picture of grey 90 has nowhere else.
    dark_columns = np.flatnonzero((right.max(-1) < 45).any(0))
    assert len(dark_columns) > 0
    assert dark_columns[-1] < right.shape[1] - 1
