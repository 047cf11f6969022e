"""Verdicts on the format of all boxes together: never a wrong one, and none where there is little evidence."""

import numpy as np
import pytest

from smca.data.checks.box_format import BoxFormat, Layout, find_box_format

SIZE = np.array([640.0, 480.0])


def draw(count, *, least, most, seed=0):
    """(count, 4) float64 (x, y, width, height) anywhere in images of ``SIZE``, sides as shares of it."""
    rng = np.random.default_rng(seed)
    sides = SIZE * rng.uniform(least, most, (count, 2))
    return np.concatenate([(SIZE - sides) * rng.uniform(0, 1, (count, 2)), sides], axis=1)


def verdict(boxes, size=SIZE):
    return find_box_format(boxes, np.tile(size, (len(boxes), 1)))


def written(boxes, box_format):
    start, sides = boxes[:, :2], boxes[:, 2:]
    boxes = {
        Layout.COCO: boxes,
        Layout.CORNERS: np.concatenate([start, start + sides], axis=1),
        Layout.CENTRES: np.concatenate([start + sides / 2, sides], axis=1),
    }[box_format.layout]
    return boxes / np.tile(SIZE, 2) if box_format.normalised else boxes


@pytest.mark.parametrize("layout", Layout, ids=str)
@pytest.mark.parametrize("normalised", [False, True])
@pytest.mark.parametrize("count", [10, 100, 1000])
@pytest.mark.parametrize(("least", "most"), [(0.02, 0.1), (0.1, 0.9)])
def test_the_verdict_is_right_or_none(layout, normalised, count, least, most):
    right = BoxFormat(layout, normalised)
    for seed in range(10):
        boxes = draw(count, least=least, most=most, seed=seed)
        found = verdict(written(boxes, right))
        assert found.normalised == normalised
        undecided = {None} if normalised else {Layout.COCO}
        assert found.layout in {layout} | undecided
        if count >= 100 and most > 0.5:
            assert found == right
            again = right.to_coco(written(boxes, right), np.tile(SIZE, (count, 1)))
            assert np.allclose(again, boxes, rtol=0, atol=1e-9)


def test_boxes_that_leave_on_the_right_only_are_no_centres_where_others_touch_the_left():
    boxes = draw(300, least=0.02, most=0.1)
    boxes[:, :2] = 300
    boxes[:10, 0] = SIZE[0] - boxes[:10, 2] / 2
    assert verdict(boxes) == BoxFormat(Layout.CENTRES)
    boxes[20:25, 0] = 0
    assert verdict(boxes) == BoxFormat()


def test_too_little_evidence():
    unit = np.array([[0.2, 0.2, 0.5, 0.5]] * 3)
    assert verdict(unit).normalised
    assert verdict(unit[:2]) == BoxFormat()
    assert verdict(np.zeros((0, 4))) == BoxFormat()
    assert verdict(np.zeros((5, 4))) == BoxFormat()
    assert verdict(unit, size=np.array([2.0, 2.0])) == BoxFormat()
    assert verdict(unit, size=np.array([np.inf, np.inf])) == BoxFormat()
    assert verdict(np.concatenate([unit, [[0.5, 0.5, 1.5, 1.5]]])) == BoxFormat()
    assert verdict(np.concatenate([unit, [[np.nan] * 4]])).normalised
