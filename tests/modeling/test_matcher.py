from itertools import permutations

import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torchvision.ops import box_convert, generalized_box_iou

from helpers import oracles
from smca.modeling import (
    CrossEntropyClassification,
    FocalClassification,
    HungarianMatcher,
    Target,
)
from smca.modeling.plus import IouClassification

QUERIES = 5


def drawn_boxes(*shape):
    return torch.cat([torch.rand(*shape, 2) * 0.6 + 0.2, torch.rand(*shape, 2) * 0.3 + 0.05], -1)


def drawn_targets(*counts, num_classes=4):
    return [Target(torch.randint(num_classes, (n,)), drawn_boxes(n)) for n in counts]


def drawn_outputs(num_layers, batch, num_outputs=4):
    logits = torch.randn(num_layers, batch, QUERIES, num_outputs)
    return logits, drawn_boxes(num_layers, batch, QUERIES)


def pairs_of(matches, layer, image):
    rows = matches.image[layer] == image
    queries, targets = matches.query[layer][rows], matches.target[layer][rows]
    return list(zip(queries.tolist(), targets.tolist(), strict=True))


def test_cost_by_hand():
    matcher = HungarianMatcher(
        classification=CrossEntropyClassification(),
        class_weight=3.0,
        box_weight=5.0,
        giou_weight=2.0,
    )
    logits = torch.log(torch.tensor([[[0.2, 0.5, 0.3]]]))
    boxes = torch.tensor([[[0.25, 0.5, 0.5, 1.0]]])
    # The left half of the image against the right half, and against itself.
    target = Target(
        torch.tensor([1, 0]), torch.tensor([[0.75, 0.5, 0.5, 1.0], [0.25, 0.5, 0.5, 1]])
    )

    cost = matcher.cost(logits, boxes, target)

    expected = [3 * -0.5 + 5 * 0.5 - 2 * 0.0, 3 * -0.2 + 0 - 2 * 1.0]
    assert cost.shape == (1, 1, 2)
    torch.testing.assert_close(cost.flatten(), torch.tensor(expected))


def test_focal_cost_equals_loops():
    matcher = HungarianMatcher(
        classification=FocalClassification(), class_weight=2.0, box_weight=5.0, giou_weight=2.0
    )
    logits, boxes = (x.double() for x in drawn_outputs(2, 1))
    (target,) = drawn_targets(3)
    target = Target(target.labels, target.boxes.double())

    cost = matcher.cost(logits[:, 0], boxes[:, 0], target)

    for layer in range(2):
        for q in range(QUERIES):
            for t in range(3):
                logit = logits[layer, 0, q, target.labels[t]].item()
                box, other = boxes[layer, 0, q].numpy(), target.boxes[t].numpy()
                class_cost = oracles.focal_term(logit, True) - oracles.focal_term(logit, False)
                expected = (
                    2 * class_cost + 5 * abs(box - other).sum() - 2 * oracles.giou(box, other)
                )
                assert cost[layer, q, t].item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("num_objects", [1, 3, 5, 7])
def test_no_other_assignment_is_cheaper(num_objects):
    matcher = HungarianMatcher(classification=FocalClassification())
    logits, boxes = drawn_outputs(2, 1)
    (target,) = drawn_targets(num_objects)

    matches = matcher(logits, boxes, [target])

    costs = matcher.cost(logits[:, 0], boxes[:, 0], target)
    for layer in range(2):
        pairs = pairs_of(matches, layer, 0)
        found = sum(costs[layer, q, t].item() for q, t in pairs)
        assert len(pairs) == min(QUERIES, num_objects)
        assert len({q for q, _ in pairs}) == len({t for _, t in pairs}) == len(pairs)
        assert found == pytest.approx(cheapest(costs[layer].tolist()), abs=1e-5)


def cheapest(cost):
    if len(cost) < len(cost[0]):
        cost = list(zip(*cost, strict=True))
    rows, columns = len(cost), len(cost[0])
    return min(
        sum(cost[row][column] for column, row in enumerate(chosen))
        for chosen in permutations(range(rows), columns)
    )


def test_batch_gives_what_single_images_give():
    matcher = HungarianMatcher(classification=FocalClassification())
    counts = (3, 0, 7, 1)
    logits, boxes = drawn_outputs(3, 4)
    targets = drawn_targets(*counts)

    matches = matcher(logits, boxes, targets)

    assert matches.query.shape == (3, 3 + 0 + 5 + 1)
    for image in range(4):
        one = slice(image, image + 1)
        alone = matcher(logits[:, one], boxes[:, one], targets[one])
        for layer in range(3):
            pairs = pairs_of(matches, layer, image)
            assert pairs == pairs_of(alone, layer, 0)
            assert pairs == sorted(pairs)
    # Images in order, queries ascending inside an image.
    places = matches.image * QUERIES + matches.query
    assert (places.diff() > 0).all()


@pytest.mark.parametrize("classification", [FocalClassification(), CrossEntropyClassification()])
def test_no_objects_at_all(classification):
    matcher = HungarianMatcher(classification=classification)

    matches = matcher(*drawn_outputs(2, 3), drawn_targets(0, 0, 0))

    for indices in (matches.image, matches.query, matches.target):
        assert indices.shape == (2, 0)
        assert indices.dtype == torch.int64


def test_one_class():
    matcher = HungarianMatcher(classification=FocalClassification())
    logits, boxes = drawn_outputs(1, 1, num_outputs=1)
    target = Target(torch.zeros(2, dtype=torch.int64), boxes[0, 0, [3, 1]])

    assert pairs_of(matcher(logits * 0, boxes, [target]), 0, 0) == [(1, 1), (3, 0)]


def test_class_decides_between_equal_boxes():
    matcher = HungarianMatcher(classification=FocalClassification())
    boxes = torch.full((1, 1, 2, 4), 0.5)
    logits = torch.tensor([[[[3.0, -3.0], [-3.0, 3.0]]]])
    target = Target(torch.tensor([1, 0]), torch.full((2, 4), 0.5))

    assert pairs_of(matcher(logits, boxes, [target]), 0, 0) == [(0, 1), (1, 0)]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("where", ["logits", "boxes", "target"])
def test_non_finite_cost_names_layer_and_image(value, where):
    matcher = HungarianMatcher(classification=CrossEntropyClassification())
    logits, boxes = drawn_outputs(3, 2)
    targets = drawn_targets(2, 2, num_classes=3)
    changed = {"logits": logits[2, 1, 4], "boxes": boxes[2, 1, 4], "target": targets[1].boxes[0]}
    changed[where][0] = value
    layer = 0 if where == "target" else 2

    with pytest.raises(FloatingPointError, match=rf"image 1 .* layer {layer}\b"):
        matcher(logits, boxes, targets)


@pytest.mark.parametrize("classification", [FocalClassification(), CrossEntropyClassification()])
def test_one_pass_gives_what_each_layer_and_image_gives_with_functions_of_torchvision(
    classification,
):
    matcher = HungarianMatcher(classification=classification)
    targets = drawn_targets(3, 0, 7, 1, num_classes=3)
    logits, boxes = drawn_outputs(6, 4)

    matches = matcher(logits, boxes, targets)

    for layer in range(6):
        for image, target in enumerate(targets):
            found, wanted = boxes[layer, image], target.boxes
            corners = (box_convert(b, "cxcywh", "xyxy") for b in (found, wanted))
            cost = (
                2 * classification.matching_cost(logits[layer, image], target.labels)
                + 5 * torch.cdist(found, wanted, p=1)
                - 2 * generalized_box_iou(*corners)
            )
            one = matcher.cost(logits[layer, None, image], found[None], target)[0]
            torch.testing.assert_close(one, cost, rtol=0, atol=2e-6)
            expected = zip(*(part.tolist() for part in linear_sum_assignment(cost)), strict=True)
            assert pairs_of(matches, layer, image) == list(expected)


def test_half_precision_logits_have_finite_costs():
    matcher = HungarianMatcher(classification=FocalClassification())
    target = Target(torch.tensor([0]), torch.tensor([[0.5, 0.5, 0.2, 0.2]]))
    logits = torch.tensor([[[12.0], [-12.0]]], dtype=torch.float16)
    boxes = torch.tensor([[[0.5, 0.5, 0.2, 0.2], [0.1, 0.1, 0.1, 0.1]]])
    costs = matcher.cost(logits, boxes, target)
    torch.testing.assert_close(costs, matcher.cost(logits.float(), boxes, target))
    assert costs.isfinite().all()


def test_boxes_that_are_their_objects_have_an_iou_of_1():
    """Above 1 a cost of the IoU's power would be no number where a query is sure."""
    torch.manual_seed(0)
    matcher = HungarianMatcher(classification=IouClassification(cost_power=0.5))
    for side in (0.5, 0.1, 0.01, 0.001):
        boxes = torch.rand(60, 4)
        boxes[:, 2:] = boxes[:, 2:] * side + side / 10
        target = Target(labels=torch.zeros(60, dtype=torch.int64), boxes=boxes)
        matches = matcher(torch.full((1, 1, 60, 2), 20.0), boxes[None, None], [target])
        assert matches.query.equal(matches.target)
