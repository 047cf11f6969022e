import math

import pytest
import torch
from torchvision.ops import box_convert, box_iou

from smca.modeling import FocalClassification, HungarianMatcher, Matches, SetCriterion, Target
from smca.modeling.criterion import paired_iou
from smca.modeling.plus import IouClassification

TARGETS = [Target(torch.tensor([1]), torch.tensor([[0.5, 0.5, 0.4, 0.4]], dtype=torch.float64))]


def test_loss_by_hand():
    """Two queries, two classes; query 0 is matched with class 1 at an IoU of 0.49: q = 0.49 ** 1.5 = 0.343."""
    classification = IouClassification(target_power=1.5, gamma=2.0, negative_weight=0.5)
    p = torch.tensor([[[[0.2, 0.6], [0.5, 0.1]]]], dtype=torch.float64)
    loss = classification.loss(
        p.logit(), torch.tensor([[[1, 2]]]), 2.0, torch.tensor([[[0.49, 0.0]]])
    )
    matched = -(0.343 * math.log(0.6) + 0.657 * math.log(0.4))
    others = sum(0.5 * v**2 * -math.log(1 - v) for v in (0.2, 0.5, 0.1))
    assert loss.tolist() == [pytest.approx((matched + others) / 2, rel=1e-6)]


def test_gradient_is_zero_where_the_score_is_the_target():
    logits = torch.tensor(0.343, dtype=torch.float64).logit().view(1, 1, 1, 1).requires_grad_()
    ious = torch.tensor([[[0.49]]], dtype=torch.float64)
    loss = IouClassification().loss(logits, torch.zeros(1, 1, 1, dtype=torch.int64), 1.0, ious)
    loss.sum().backward()
    assert logits.grad.item() == pytest.approx(0.0, abs=1e-9)


def test_cost_by_hand():
    classification = IouClassification(alpha=0.25, gamma=2.0, cost_power=0.5)
    logits = torch.tensor([[0.8, 0.3]], dtype=torch.float64).logit()
    cost = classification.matching_cost(
        logits, torch.tensor([1, 0]), torch.tensor([[0.25, 0.64]], dtype=torch.float64)
    )
    for found, p in zip(cost[0].tolist(), (0.3 * 0.5, 0.8 * 0.8), strict=True):
        expected = 0.25 * (1 - p) ** 2 * -math.log(p) - 0.75 * p**2 * -math.log(1 - p)
        assert found == pytest.approx(expected, rel=1e-6)
    plain = IouClassification().matching_cost(logits, torch.tensor([1, 0]), torch.zeros(1, 2))
    expected = FocalClassification().matching_cost(logits, torch.tensor([1, 0]))
    torch.testing.assert_close(plain, expected)


def test_paired_iou_equals_torchvisions():
    torch.manual_seed(0)
    first, second = torch.rand(2, 20, 4, dtype=torch.float64)
    corners = (box_convert(boxes, "cxcywh", "xyxy") for boxes in (first, second))
    torch.testing.assert_close(paired_iou(first, second), box_iou(*corners).diagonal())
    assert paired_iou(torch.zeros(1, 4), torch.zeros(1, 4)).tolist() == [0]


def build(**options):
    classification = IouClassification(**options)
    matcher = HungarianMatcher(
        classification=classification, class_weight=1.0, box_weight=0.0, giou_weight=0.0
    )
    return SetCriterion(matcher=matcher, classification=classification, class_weight=1.0)


def outputs(boxes, p):
    return {
        "pred_logits": torch.tensor(p, dtype=torch.float64).logit()[None, None],
        "pred_boxes": torch.tensor(boxes, dtype=torch.float64)[None, None].requires_grad_(),
    }


def test_criterion_gives_the_ious_of_matched_queries():
    """Query 1 is matched; half the object's width is an IoU of 0.5."""
    criterion = build(target_power=1.0, gamma=0.0)
    given = outputs([[0.1, 0.1, 0.1, 0.1], [0.5, 0.5, 0.2, 0.4]], [[0.5, 0.5], [0.5, 0.2]])
    matches = Matches(*torch.tensor([[[0]], [[1]], [[0]]]))
    loss = criterion.losses(given, matches, TARGETS, 1.0)["loss_ce"]
    expected = 3 * -math.log(0.5) - 0.5 * (math.log(0.2) + math.log(0.8))
    assert loss.item() == pytest.approx(expected)
    # Boxes do not learn from it.
    assert not loss.requires_grad or torch.autograd.grad(
        loss, given["pred_boxes"], allow_unused=True
    ) == (None,)


def test_a_box_that_fits_is_preferred_if_the_cost_says_so():
    boxes = [[0.5, 0.5, 0.1, 0.1], [0.5, 0.5, 0.4, 0.4]]
    p = [[0.1, 0.6], [0.1, 0.5]]
    for power, query in ((0.0, 0), (1.0, 1)):
        matches = build(cost_power=power).match(outputs(boxes, p), TARGETS)
        assert matches.query.tolist() == [[query]]


def test_without_objects():
    empty = [Target(torch.tensor([], dtype=torch.int64), torch.empty(0, 4, dtype=torch.float64))]
    given = outputs([[0.5, 0.5, 0.4, 0.4]], [[0.5, 0.5]])
    loss = build(gamma=1.0)(given, empty)["loss_ce"]
    assert loss.item() == pytest.approx(2 * 0.5 * -math.log(0.5))


@pytest.mark.parametrize("name", ["target_power", "cost_power", "negative_weight"])
def test_bad_settings_are_refused(name):
    with pytest.raises(ValueError, match=f"classification.{name}"):
        IouClassification(**{name: -1})
