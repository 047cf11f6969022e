import numpy as np
import pytest
import torch
from detectron2.utils import comm
from torchvision.ops import box_convert, generalized_box_iou_loss

from helpers import oracles
from helpers.builders import model_config
from helpers.goldens import golden
from smca.modeling import (
    CrossEntropyClassification,
    FocalClassification,
    HungarianMatcher,
    MoreOutputs,
    SetCriterion,
    Target,
)
from smca.modeling.criterion import paired_giou_loss

QUERIES = 6


def built(classification=None, **weights):
    classification = classification or FocalClassification()
    return SetCriterion(
        matcher=HungarianMatcher(classification=classification),
        classification=classification,
        **weights,
    )


def drawn_outputs(num_layers, batch, num_outputs=4):
    boxes = torch.rand(num_layers, batch, QUERIES, 4, dtype=torch.float64) * 0.5 + 0.2
    logits = torch.randn(num_layers, batch, QUERIES, num_outputs, dtype=torch.float64)
    return {"pred_logits": logits.requires_grad_(), "pred_boxes": boxes.requires_grad_()}


def drawn_targets(*counts, num_classes=4):
    return [
        Target(torch.randint(num_classes, (n,)), torch.rand(n, 4, dtype=torch.float64) * 0.5 + 0.2)
        for n in counts
    ]


def golden_inputs(seed):
    rng = np.random.RandomState(seed)

    def boxes(*shape):
        parts = [rng.uniform(0.2, 0.8, (*shape, 2)), rng.uniform(0.05, 0.4, (*shape, 2))]
        return torch.from_numpy(np.concatenate(parts, axis=-1).astype(np.float32))

    layers = []
    for _ in range(2):
        logits = torch.from_numpy(rng.standard_normal((3, 12, 5)).astype(np.float32))
        layers.append((logits, boxes(3, 12)))
    targets = []
    for n in (3, 0, 7):
        labels = torch.from_numpy(rng.randint(0, 5, n).astype(np.int64))
        targets.append(Target(labels, boxes(n)))
    logits, layer_boxes = (torch.stack(parts) for parts in zip(*layers, strict=True))
    return {"pred_logits": logits, "pred_boxes": layer_boxes}, targets


def test_equals_the_released_implementation():
    expected = golden("criterion")
    outputs, targets = golden_inputs(int(expected["seed"]))
    criterion = built(class_weight=1.0, box_weight=1.0, giou_weight=1.0)

    losses = criterion(outputs, targets)
    matches = criterion.matcher(outputs["pred_logits"], outputs["pred_boxes"], targets)

    assert losses.keys() == {name for name in expected if name.startswith("loss_")}
    for name, value in losses.items():
        assert value.item() == pytest.approx(expected[name].item(), abs=1e-5)
    assert matches.query[-1].tolist() == expected["match_query"].tolist()
    assert matches.target[-1].tolist() == expected["match_target"].tolist()
    assert matches.image[-1].tolist() == [0] * 3 + [2] * 7


@pytest.mark.parametrize("counts", [(2, 0, 4), (9, 1, 0)])
def test_equals_loops(counts):
    criterion = built()
    outputs, targets = drawn_outputs(2, 3), drawn_targets(*counts)

    num_boxes = sum(counts)
    losses = criterion.losses(outputs, criterion.match(outputs, targets), targets, num_boxes)

    logits, boxes = (outputs[name].detach() for name in ("pred_logits", "pred_boxes"))
    matches = criterion.matcher(logits, boxes, targets)
    for layer in range(2):
        assigned, l1, giou = {}, 0.0, 0.0
        triples = (x[layer].tolist() for x in (matches.image, matches.query, matches.target))
        for b, q, t in zip(*triples, strict=True):
            assigned[b, q] = targets[b].labels[t].item()
            box, truth = boxes[layer, b, q].numpy(), targets[b].boxes[t].numpy()
            l1 += abs(box - truth).sum()
            giou += 1 - oracles.giou(box, truth)
        focal = sum(
            oracles.focal_term(logits[layer, b, q, k].item(), assigned.get((b, q)) == k)
            for b in range(3)
            for q in range(QUERIES)
            for k in range(4)
        )
        assert len(assigned) == sum(min(n, QUERIES) for n in counts)
        assert losses["loss_ce"][layer].item() == pytest.approx(focal / num_boxes, rel=1e-9)
        assert losses["loss_bbox"][layer].item() == pytest.approx(l1 / num_boxes, rel=1e-9)
        # torchvision's GIoU adds 1e-7 to its divisors.
        assert losses["loss_giou"][layer].item() == pytest.approx(giou / num_boxes, rel=1e-5)


def test_cross_entropy_by_hand():
    # The first query takes the only object, the second says "no object", the last output.
    probabilities = torch.tensor([[0.7, 0.1, 0.2], [0.3, 0.3, 0.4]])
    boxes = torch.tensor([[0.5, 0.5, 0.4, 0.4], [0.1, 0.1, 0.1, 0.1]])
    outputs = {"pred_logits": probabilities.log()[None, None], "pred_boxes": boxes[None, None]}
    target = Target(torch.tensor([0]), torch.tensor([[0.5, 0.5, 0.2, 0.4]]))
    criterion = built(CrossEntropyClassification(no_object_weight=0.1), class_weight=1.0)

    losses = criterion(outputs, [target])

    expected = {
        "loss_ce": (-np.log(0.7) - 0.1 * np.log(0.4)) / 1.1,
        "loss_bbox": 5 * 0.2,
        "loss_giou": 2 * 0.5,
    }
    assert {name: loss.item() for name, loss in losses.items()} == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("classification", [FocalClassification(), CrossEntropyClassification()])
def test_batch_without_objects(classification):
    criterion = built(classification)
    outputs = drawn_outputs(2, 3)

    losses = criterion(outputs, drawn_targets(0, 0, 0))
    sum(losses.values()).backward()

    for name, loss in losses.items():
        assert loss.isfinite()
        assert (loss == 0) == (not name.startswith("loss_ce"))
    # The box head takes part: distributed training wants a gradient for each of its weights.
    assert (outputs["pred_boxes"].grad == 0).all()
    assert outputs["pred_logits"].grad.abs().max() > 0


def test_names_and_weights_of_every_layer():
    outputs, targets = drawn_outputs(3, 2), drawn_targets(2, 3)
    plain = built().losses(outputs, built().match(outputs, targets), targets, 5)

    weighted = built(class_weight=3.0, box_weight=7.0, giou_weight=11.0)(outputs, targets)

    assert weighted.keys() == {
        f"loss_{kind}{suffix}" for kind in ("ce", "bbox", "giou") for suffix in ("", "_0", "_1")
    }
    for kind, weight in (("loss_ce", 3), ("loss_bbox", 7), ("loss_giou", 11)):
        for layer, suffix in enumerate(("_0", "_1", "")):
            torch.testing.assert_close(weighted[kind + suffix], weight * plain[kind][layer])


def test_matched_queries_get_the_class_and_others_none():
    criterion = built()
    outputs = drawn_outputs(1, 1)
    target = Target(torch.tensor([2]), outputs["pred_boxes"][0, 0, 4:5].detach().clone())

    matches = criterion.match(outputs, [target])
    criterion.losses(outputs, matches, [target], 1)["loss_ce"].sum().backward()

    # Only the matched query's own class is pushed up.
    assert (outputs["pred_logits"].grad[0, 0] < 0).nonzero().tolist() == [[4, 2]]


def test_configured_weights_are_the_papers():
    focal, published = model_config("detr").criterion, model_config("detr_published").criterion
    for criterion, class_weight in ((focal, 2.0), (published, 1.0)):
        for owner in (criterion, criterion.matcher):
            assert (owner.class_weight, owner.box_weight, owner.giou_weight) == (class_weight, 5, 2)


@pytest.mark.parametrize("classification", [FocalClassification(), CrossEntropyClassification()])
@pytest.mark.parametrize("given", [1.0, 2.5, 40.0])
def test_a_given_number_of_boxes_replaces_the_batchs_own(classification, given):
    criterion = built(classification)
    outputs, targets = drawn_outputs(2, 3), drawn_targets(2, 0, 4)

    own = criterion(outputs, targets)
    losses = criterion(outputs, targets, given)

    for name, loss in losses.items():
        # Cross entropy is a mean over the queries, whatever the number of boxes.
        averaged = "loss_ce" not in name or isinstance(classification, FocalClassification)
        factor = 6 / given if averaged else 1.0
        torch.testing.assert_close(loss, own[name] * factor)


def test_parts_of_a_batch_add_up_to_the_whole():
    criterion = built()
    outputs, targets = drawn_outputs(2, 4), drawn_targets(3, 0, 1, 5)
    whole = criterion(outputs, targets)
    parts = [
        criterion({k: v[:, i : i + 2] for k, v in outputs.items()}, targets[i : i + 2], 9 / 2)
        for i in (0, 2)
    ]
    for name, loss in whole.items():
        torch.testing.assert_close((parts[0][name] + parts[1][name]) / 2, loss)


def test_without_objects_the_number_of_boxes_is_one():
    criterion = built()
    outputs, targets = drawn_outputs(1, 2), drawn_targets(0, 0)
    torch.testing.assert_close(criterion(outputs, targets), criterion(outputs, targets, 1.0))


def test_processes_average_over_the_mean_number_of_boxes(monkeypatch):
    """Another process has 8 objects."""
    monkeypatch.setattr(comm, "get_world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda count: count.add_(8))
    criterion = built()
    outputs, targets = drawn_outputs(1, 2), drawn_targets(1, 1)
    losses = criterion(outputs, targets)
    torch.testing.assert_close(losses, criterion(outputs, targets, 5.0))


@pytest.mark.parametrize("known", [False, True])
def test_more_outputs_have_losses_of_their_own_name_and_weight(known):
    criterion = built()
    main, other = drawn_outputs(1, 2), drawn_outputs(2, 2)
    targets, others = drawn_targets(2, 1), drawn_targets(1, 3)
    matches = criterion.match(other, others) if known else None
    more = {"hints": MoreOutputs(other, matches, others, weight=0.25)}

    losses = criterion({**main, "more": more}, targets)

    alone, apart = criterion(main, targets), criterion(other, others, 3)
    assert losses.keys() == {*alone, *(f"hints_{name}" for name in apart)}
    for name, value in alone.items():
        torch.testing.assert_close(losses[name], value)
    for name, value in apart.items():
        # Averaged over the boxes of the batch.
        torch.testing.assert_close(losses[f"hints_{name}"], 0.25 * value)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_giou_loss_is_torchvisions_number_by_number(dtype):
    generator = torch.Generator().manual_seed(0)
    drawn = torch.rand(2, 200, 4, generator=generator, dtype=dtype)
    drawn[..., :2] = 0.3 + 0.4 * drawn[..., :2]
    # Boxes that touch, one in the other, and without width.
    drawn[:, 0] = torch.tensor([[0.2, 0.2, 0.2, 0.2], [0.4, 0.2, 0.2, 0.2]])
    drawn[:, 1] = torch.tensor([[0.5, 0.5, 0.4, 0.4], [0.5, 0.5, 0.1, 0.2]])
    drawn[:, 2] = torch.tensor([[0.5, 0.5, 0.0, 0.4], [0.5, 0.5, 0.1, 0.2]])
    results = []
    for loss in (
        paired_giou_loss,
        lambda *pair: generalized_box_iou_loss(*(box_convert(b, "cxcywh", "xyxy") for b in pair)),
    ):
        boxes = drawn.clone().requires_grad_()
        values = loss(*boxes)
        values.sum().backward()
        results.append((values, boxes.grad))
    assert 20 < (results[0][0] < 1).sum() < 180
    for ours, theirs in zip(*results, strict=True):
        assert torch.equal(ours, theirs)
