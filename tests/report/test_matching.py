"""Which detection found which object, against the evaluator and by hand."""

import numpy as np
import pytest

from helpers.outcomes import evaluated, random_case
from smca.report.error_kinds import best_threshold, find_error_kinds
from smca.report.matching import NONE, match

BOX = (10, 10, 20, 20)


@pytest.mark.parametrize("seed", range(8))
def test_ap50_is_the_evaluators(tmp_path, seed):
    objects, found = random_case(seed)
    outcome = evaluated(tmp_path, objects, found, names=("a", "b", "c", "d"), images=6)
    kinds = find_error_kinds(match(outcome))
    assert kinds.ap50() == pytest.approx(outcome.numbers["AP50"], abs=1e-9)
    assert 0 < kinds.ap50() < 100


def test_a_limit_of_detections_is_the_evaluators(tmp_path):
    """More than a hundred of one class and image: the worst are not looked at."""
    found = [(0, 0, (50, 50, 10, 10), 0.9 - n / 1000) for n in range(100)]
    outcome = evaluated(tmp_path, [(0, 0, BOX)], [*found, (0, 0, BOX, 0.1), (0, 1, BOX, 0.1)])
    matches = match(outcome)
    assert len(matches.detections) == 101
    assert find_error_kinds(matches).ap50() == outcome.numbers["AP50"] == 0


def test_who_finds_what(tmp_path):
    """The better score first, the larger overlap, each object once, a crowd as often as one likes."""
    objects = [(0, 0, BOX), (0, 0, (12, 10, 20, 20)), (0, 0, (60, 60, 30, 30), True), (1, 1, BOX)]
    found = [
        (0, 0, (11.5, 10, 20, 20), 0.9),  # nearer to the second
        (0, 0, (12, 10, 20, 20), 0.8),  # which is taken
        (0, 0, BOX, 0.7),  # both are taken
        (0, 0, (60, 60, 10, 10), 0.6),  # inside of the crowd
        (0, 0, (70, 70, 10, 10), 0.5),  # and this, too
        (1, 0, BOX, 0.4),  # of another class
    ]
    matches = match(evaluated(tmp_path, objects, found))
    assert matches.found.tolist() == [1, 0, NONE, NONE, NONE, NONE]
    assert matches.ignored.tolist() == [False, False, False, True, True, False]
    assert matches.other.tolist()[-1] == 2
    assert matches.other_iou[-1] == 1
    assert matches.missed(matches.detections.scores > 0).tolist() == [False, False, True]
    assert matches.missed(matches.detections.scores > 0.85).tolist() == [True, False, True]


def test_threshold_is_that_of_the_best_f1(tmp_path):
    """Right, right, wrong, right, wrong, wrong of 4 objects: F1 by hand is 0.4, 2/3, 4/7, 3/4, 2/3, 3/5."""
    places = [(10 * n, 0, 9, 9) for n in range(4)]
    away = (0, 60, 9, 9)
    boxes = [places[0], places[1], away, places[2], away, away]
    scores = [0.9, 0.8, 0.7, 0.656, 0.5, 0.4]
    found = [(0, 0, box, score) for box, score in zip(boxes, scores, strict=True)]
    outcome = evaluated(tmp_path, [(0, 0, box) for box in places], found)
    assert best_threshold(match(outcome)) == 0.65


@pytest.mark.parametrize(
    ("objects", "found"),
    [
        ([], []),
        ([(0, 0, BOX)], []),
        ([], [(0, 0, BOX, 0.9)]),
        ([(0, 0, BOX, True)], [(0, 0, BOX, 1)]),
    ],
)
def test_nothing_there_or_nothing_found(tmp_path, objects, found):
    matches = match(evaluated(tmp_path, objects, found))
    kinds = find_error_kinds(matches)
    has_objects = len(matches.objects) > 0
    assert best_threshold(matches) == 0.5
    assert np.isnan(kinds.ap50()) != has_objects
    assert len(kinds.gains()) == 6
    assert kinds.counts()["missed"] == has_objects
