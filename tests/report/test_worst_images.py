"""Which images have most errors, and what is drawn where."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from helpers.outcomes import evaluated
from smca.report.error_kinds import find_error_kinds
from smca.report.matching import match
from smca.report.worst_images import paint, worst_images

LEFT, RIGHT = (10, 20, 20, 30), (60, 20, 30, 30)
SCALE = 448 / 100


@pytest.fixture
def kinds(tmp_path):
    """Image 0 has one error, image 1 three and image 2 none; the last detection is shown below 0.2 only."""
    found = [
        (0, 0, LEFT, 0.9),
        (1, 1, LEFT, 0.8),
        (1, 0, (2, 80, 10, 10), 0.7),
        (2, 0, LEFT, 0.6),
        (2, 0, RIGHT, 0.1),
    ]
    objects = [(0, 0, LEFT), (0, 0, RIGHT), (1, 0, LEFT), (1, 0, RIGHT), (2, 0, LEFT)]
    return find_error_kinds(match(evaluated(tmp_path, objects, found, images=3, with_files=True)))


def test_most_errors_first(kinds):
    first, second = worst_images(kinds, 0.2, 8)
    assert (first.number, second.number) == (2, 1)
    assert first.counts == {"class": 1, "background": 1, "missed": 1}
    assert second.counts == {"missed": 1}
    assert (first.detections, first.objects) == (2, 2)
    assert len(worst_images(kinds, 0.2, 1)) == 1
    assert [image.number for image in worst_images(kinds, 0.0, 8)] == [2, 1, 3]


def color_at(source, x, y):
    """Of the brightest of the pixels around a place in the image, as letters of the channels that are bright."""
    content = base64.b64decode(source.partition("base64,")[2])
    pixels = np.asarray(Image.open(io.BytesIO(content))).astype(int)
    row, column = round(y * SCALE), round(x * SCALE)
    near = pixels[max(0, row - 3) : row + 4, max(0, column - 3) : column + 4].reshape(-1, 3)
    red, _, blue = near[near.sum(1).argmax()]
    if max(red, blue) < 100:
        return "dark"
    return "blue" if blue > red else "orange"


def test_boxes_are_where_they_belong_in_the_colour_of_their_fate(kinds, tmp_path):
    pictures = paint(kinds, 0.2, 1, str(tmp_path / "0.png"), ("cat", "dog"))
    middle = 35
    # Left and right edge of each box, on the truth and on what was found.
    assert color_at(pictures.truth, 10, middle) == color_at(pictures.truth, 30, middle) == "blue"
    assert color_at(pictures.truth, 60, middle) == color_at(pictures.truth, 90, middle) == "orange"
    assert color_at(pictures.found, 10, middle) == color_at(pictures.found, 30, middle) == "blue"
    assert color_at(pictures.found, 60, middle) == color_at(pictures.found, 20, middle) == "dark"
    wrong = paint(kinds, 0.2, 2, str(tmp_path / "1.png"), ("cat", "dog"))
    assert color_at(wrong.found, 10, middle) == color_at(wrong.found, 12, 85) == "orange"
