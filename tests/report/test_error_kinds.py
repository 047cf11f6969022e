"""Kinds of errors and the confusion matrix, of boxes whose overlaps are known."""

import numpy as np
import pytest

from helpers.outcomes import evaluated, random_case
from smca.report.confusion import confusion_matrix, most_confused
from smca.report.error_kinds import KINDS, find_error_kinds
from smca.report.matching import NONE, match

CAT, DOG = 0, 1
HERE = (0, 0, 20, 20)


def shifted(dx):
    """Overlaps ``HERE`` by (20 - dx) / (20 + dx): 0.6 for 5, 1/3 for 10, 0.081 for 17."""
    return (dx, 0, 20, 20)


def kinds_of(folder, objects, found):
    kinds = find_error_kinds(match(evaluated(folder, objects, found)))
    return [None if k == NONE else KINDS[k] for k in kinds.kinds], kinds


@pytest.mark.parametrize(
    ("detection", "expected"),
    [
        ((CAT, shifted(5)), None),
        ((CAT, shifted(10)), "box"),
        ((DOG, shifted(5)), "class"),
        ((DOG, shifted(10)), "both"),
        ((CAT, shifted(17)), "background"),
        ((DOG, shifted(17)), "background"),
        ((CAT, (60, 60, 20, 20)), "background"),
    ],
)
def test_one_detection_on_one_cat(tmp_path, detection, expected):
    names, kinds = kinds_of(tmp_path, [(0, CAT, HERE)], [(0, *detection, 0.9)])
    assert names == [expected]
    assert kinds.counts()["missed"] == (expected in ("both", "background"))
    if expected is not None:
        assert kinds.counts()[expected] == 1


def test_a_second_detection_of_a_cat_is_a_duplicate(tmp_path):
    found = [(0, CAT, shifted(1), 0.9), (0, CAT, HERE, 0.8)]
    assert kinds_of(tmp_path, [(0, CAT, HERE)], found)[0] == [None, "duplicate"]


def test_between_a_cat_and_a_dog_the_box_comes_first(tmp_path):
    """On the dog with IoU 0.6, and on the cat with 1/3."""
    objects = [(0, CAT, HERE), (0, DOG, (15, 0, 20, 20))]
    assert kinds_of(tmp_path, objects, [(0, CAT, (10, 0, 20, 20), 0.9)])[0] == ["box"]


def test_a_crowd_has_no_wrong_box_on_it(tmp_path):
    """A third of the detection lies on a crowd of its class, a quarter on one of the other."""
    objects = [(0, CAT, (0, 0, 20, 20), True), (0, DOG, (60, 0, 30, 20), True)]
    found = [(0, CAT, (10, 0, 30, 20), 0.9), (0, CAT, (60, 0, 30, 20), 0.8)]
    assert kinds_of(tmp_path, objects, found)[0] == ["background", "background"]


def test_counts_are_of_what_is_shown(tmp_path):
    objects = [(0, CAT, HERE), (1, CAT, HERE)]
    found = [(0, CAT, HERE, 0.3), (1, DOG, HERE, 0.6), (1, DOG, (60, 60, 9, 9), 0.2)]
    _, kinds = kinds_of(tmp_path, objects, found)
    empty = dict.fromkeys(KINDS, 0)
    assert kinds.counts() == empty | {"class": 1, "background": 1}
    assert kinds.counts(0.25) == empty | {"class": 1}
    assert kinds.counts(0.5) == empty | {"class": 1, "missed": 1}
    assert kinds.counts(0.7) == empty | {"missed": 2}


def test_gains_by_hand(tmp_path):
    """Two cats, the first found behind a detection of nothing; on the second a box that is off.

    Without mending: wrong, wrong, right of 2 objects, precision 1/3 up to recall 0.5, that is 51 of 101 recalls.
    """
    objects = [(0, CAT, HERE), (1, CAT, HERE)]
    found = [
        (0, CAT, (60, 60, 9, 9), 0.9),
        (1, CAT, shifted(10), 0.8),
        (0, CAT, HERE, 0.7),
    ]
    _, kinds = kinds_of(tmp_path, objects, found)
    before = 100 * 51 / 101 / 3
    assert kinds.ap50() == pytest.approx(before)
    assert kinds.gains() == pytest.approx(
        {
            # wrong, right, right: 1/2 and then 2/3, of which the larger counts throughout.
            "box": 100 * 2 / 3 - before,
            # wrong, right.
            "background": 100 * 51 / 101 / 2 - before,
            "class": 0,
            "both": 0,
            "duplicate": 0,
            "missed": 0,
        }
    )


def test_a_mended_class_counts_once_and_only_on_what_was_not_found(tmp_path):
    """Two dogs on a cat that was not found, and one on a cat that was; the second and the last are left out."""
    objects = [(0, CAT, HERE), (1, CAT, HERE), (1, DOG, (60, 60, 20, 20))]
    found = [
        (0, DOG, HERE, 0.9),
        (0, DOG, HERE, 0.8),
        (1, CAT, HERE, 0.7),
        (1, DOG, HERE, 0.6),
        (1, DOG, (60, 60, 20, 20), 0.5),
    ]
    names, kinds = kinds_of(tmp_path, objects, found)
    assert names == ["class", "class", None, "class", None]
    # Of cats one of two is found, of dogs the one behind three that are wrong.
    before = 100 * (51 / 101 + 1 / 4) / 2
    assert kinds.ap50() == pytest.approx(before)
    assert kinds.gains()["class"] == pytest.approx(100 - before)


def test_a_wrong_class_on_what_was_found_is_left_out_when_it_is_mended(tmp_path):
    """Else two of two cats would count as found."""
    objects = [(0, CAT, HERE), (1, CAT, HERE)]
    _, kinds = kinds_of(tmp_path, objects, [(0, CAT, HERE, 0.7), (0, DOG, HERE, 0.6)])
    assert kinds.ap50() == pytest.approx(100 * 51 / 101)
    assert kinds.gains()["class"] == pytest.approx(0)


def test_missed_objects_are_no_longer_asked_for(tmp_path):
    objects = [(0, CAT, HERE), (0, CAT, (60, 60, 20, 20)), (1, CAT, HERE)]
    _, kinds = kinds_of(tmp_path, objects, [(0, CAT, HERE, 0.9), (1, DOG, HERE, 0.5)])
    # One of three, then one of two: the third cat has a wrong class on it and is not "missed".
    assert kinds.gains()["missed"] == pytest.approx(100 * (51 - 34) / 101)


def test_confusion_matrix_by_hand(tmp_path):
    objects = [
        (0, CAT, HERE),
        (0, DOG, (40, 40, 20, 20)),
        (1, CAT, HERE),
        (1, DOG, (40, 40, 20, 20)),
        (1, DOG, (70, 70, 20, 20), True),
    ]
    found = [
        (0, CAT, HERE, 0.9),  # right
        (0, DOG, HERE, 0.8),  # the cat is taken: nothing there
        (0, CAT, (40, 40, 20, 20), 0.7),  # a dog taken for a cat
        (0, CAT, (41, 40, 20, 20), 0.6),  # which is so once only
        (1, DOG, (10, 0, 20, 20), 0.9),  # too far from the cat, which is missed
        (1, DOG, (70, 70, 20, 20), 0.9),  # on a crowd: nowhere
        (1, DOG, (40, 40, 20, 20), 0.1),  # below the threshold: the dog is missed
    ]
    matches = match(evaluated(tmp_path, objects, found))
    expected = [[1, 0, 1], [1, 0, 1], [1, 2, 0]]
    assert confusion_matrix(matches, 0.5).tolist() == expected
    assert most_confused(confusion_matrix(matches, 0.5), 5) == [(DOG, CAT, 1)]


def test_everything_is_in_the_matrix_once(tmp_path):
    objects, found = random_case(3)
    matches = match(evaluated(tmp_path, objects, found, names=("a", "b", "c"), images=6))
    for threshold in (0, 0.3, 0.8):
        matrix = confusion_matrix(matches, threshold)
        shown = matches.detections.scores >= threshold
        number = np.bincount(matches.objects.classes, minlength=3)
        assert matrix[:-1].sum(1).tolist() == number.tolist()
        assert matrix[:, :-1].sum() == (shown & ~matches.ignored).sum()
        assert np.trace(matrix) == (shown & matches.is_true).sum()
