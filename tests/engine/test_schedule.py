import pytest
import torch
from detectron2.solver import LRMultiplier
from fvcore.common.param_scheduler import ParamScheduler

from smca.engine import EpochSchedule, iteration_of_epoch
from smca.engine.schedule import few_steps_warning

COCO_IMAGES = 118287


def make(*, max_iter: int, per_epoch: float = 1.0, **options) -> EpochSchedule:
    return EpochSchedule(iterations_per_epoch=per_epoch, max_iter=max_iter, **options)


@pytest.mark.parametrize(
    ("batch_size", "milestone", "length"),
    [
        (8, 591435, 739294),
        (16, 295718, 369647),
        (32, 147859, 184824),
        (64, 73930, 92412),
    ],
)
def test_coco_milestones(batch_size, milestone, length):
    """Epoch 40 of 50 ends with the step that holds image 40 * 118287, partly used or not."""
    per_epoch = COCO_IMAGES / batch_size
    schedule = make(drop_epochs=[40], per_epoch=per_epoch, max_iter=length)
    assert schedule.milestones == [milestone]
    assert iteration_of_epoch(50, per_epoch) == length
    assert (milestone - 1) * batch_size < 40 * COCO_IMAGES <= milestone * batch_size


@pytest.mark.parametrize(
    ("epoch", "per_epoch", "iteration"),
    [(1, 10, 10), (1, 10.5, 11), (2, 10.5, 21), (0.5, 10, 5), (0, 10, 0), (3, 0.1 * 10, 3)],
)
def test_iteration_of_epoch(epoch, per_epoch, iteration):
    assert iteration_of_epoch(epoch, per_epoch) == iteration


def test_whole_iterations_are_not_rounded_up():
    """Such as 108 * (100 / 12): division leaves an error, which must not cost an iteration."""
    inexact = 0
    for batch_size in range(1, 65):
        for images in range(100, 150):
            epoch = batch_size
            assert iteration_of_epoch(epoch, images / batch_size) == images
            inexact += epoch * (images / batch_size) > images
    assert inexact > 0


def rates(schedule: ParamScheduler, max_iter: int, first: int = 0) -> list[float]:
    """The rate that each iteration from `first` on steps with, as Detectron2's hook sets it."""
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([{"params": [weight], "lr": 2.0, "initial_lr": 2.0}])
    scheduler = LRMultiplier(optimizer, schedule, max_iter, last_iter=first - 1)
    found = []
    for _ in range(first, max_iter):
        found.append(optimizer.param_groups[0]["lr"])
        weight.grad = torch.zeros(1)
        optimizer.step()
        scheduler.step()
    return found


def test_the_rate_drops_at_the_milestone():
    schedule = make(drop_epochs=[4, 6], per_epoch=2.5, max_iter=23)
    assert schedule.milestones == [10, 15]
    assert rates(schedule, 23) == pytest.approx([2.0] * 10 + [0.2] * 5 + [0.02] * 8)


def test_the_drop_is_exact_in_a_long_training():
    """fvcore hands over a position in [0, 1], in which one of 739294 iterations is hard to see."""
    length, milestone = 739294, 591435
    schedule = make(drop_epochs=[40], per_epoch=COCO_IMAGES / 8, max_iter=length)
    for iteration in (0, milestone - 2, milestone - 1):
        assert schedule(iteration / length) == 1.0
    for iteration in (milestone, milestone + 1, length - 1):
        assert schedule(iteration / length) == pytest.approx(0.1)


def test_a_resumed_schedule_goes_on():
    schedule = make(drop_epochs=[4], per_epoch=2.5, max_iter=20, warmup_iterations=6)
    whole = rates(schedule, 20)
    for first in (3, 9, 10, 11):
        assert rates(schedule, 20, first) == pytest.approx(whole[first:])


def test_warm_up():
    schedule = make(max_iter=10, warmup_iterations=4, warmup_factor=0.2)
    values = [schedule(iteration / 10) for iteration in range(6)]
    assert values == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0])


def test_warm_up_and_drop_together():
    schedule = make(drop_epochs=[2], gamma=0.5, max_iter=10, warmup_iterations=4, warmup_factor=0)
    values = [schedule(iteration / 10) for iteration in range(5)]
    assert values == pytest.approx([0.0, 0.25, 0.25, 0.375, 0.5])


def test_no_warm_up_starts_at_the_full_rate():
    assert make(max_iter=10)(0.0) == 1.0


def test_a_drop_after_the_end_never_comes():
    assert set(rates(make(drop_epochs=[40], per_epoch=10, max_iter=30), 30)) == {2.0}


@pytest.mark.parametrize(
    ("length", "epochs", "milestone"),
    [
        # As many epochs as the recipe says, and fewer, with 25 steps each.
        (200, 8, 160),
        (1000, 40, 800),
        # As many steps as train.max_iter says, whatever train.epochs says.
        (600, None, 480),
        (7, None, 6),
    ],
)
def test_the_drop_follows_the_length(length, epochs, milestone):
    schedule = make(drop_at=[0.8], per_epoch=25, max_iter=length, training_epochs=epochs)
    assert schedule.milestones == [milestone]


def test_epochs_of_ones_own_stay_where_they_are():
    """Also in configs that were written before there were shares."""
    for length in (100, 600, 2000):
        schedule = make(drop_at=[0.5], drop_epochs=[6.4], per_epoch=25, max_iter=length)
        assert schedule.milestones == [160]
    assert make(drop_at=[0.5], drop_epochs=[], max_iter=10).milestones == []


@pytest.mark.parametrize(
    ("length", "per_epoch", "by_epochs", "longer"),
    [
        (200, 25, True, "train.epochs=20"),
        (200, 0.5, True, "train.epochs=1000"),
        (499, 12.5, True, "train.epochs=40"),
        (499, 25, False, "train.max_iter=500"),
        (500, 25, True, None),
        (739294, 14785.875, True, None),
    ],
)
def test_few_steps(length, per_epoch, by_epochs, longer):
    warning = few_steps_warning(length, per_epoch, by_epochs=by_epochs)
    if longer is None:
        assert warning is None
    else:
        assert f"{length} steps are few" in warning
        assert f"set {longer} or more" in warning
        assert "\n" not in warning
