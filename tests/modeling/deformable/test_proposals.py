"""Boxes of cells, and which of them are proposed."""

import pytest
import torch

from helpers.builders import draw_parameters, feature_levels
from smca.modeling import FocalClassification, Target
from smca.modeling.deformable import EncoderProposals, ProposalQueries, Proposals

FOCAL = FocalClassification()


def proposals_of(levels, **options):
    module = EncoderProposals(embed_dim=8, num_classes=3, classification=FOCAL, **options)
    return draw_parameters(module).double()


def test_boxes_of_cells():
    """Image 1 is half as wide as the batch; its padded cells propose nothing."""
    levels = feature_levels([(64, 128), (64, 64)], (32, 64), 8)

    boxes, proposes = proposals_of(levels).initial_boxes(levels)

    assert proposes[..., 0].tolist() == [
        [True] * 10,
        [True, True, False, False] * 2 + [True, False],
    ]
    centers = [((x + 0.5) / 2, (y + 0.5) / 2) for y in range(2) for x in range(2)]
    found = boxes[1].sigmoid()[[0, 1, 4, 5]]
    expected = torch.tensor([(*center, 0.05, 0.05) for center in centers], dtype=torch.float64)
    torch.testing.assert_close(found, expected)
    # A level further the side is twice as long.
    torch.testing.assert_close(boxes[1, 8].sigmoid(), torch.tensor([0.5, 0.5, 0.1, 0.1]).double())
    assert torch.isinf(boxes[1, [2, 9]]).all()


@pytest.mark.parametrize(
    ("cells", "side", "proposed"),
    [
        # Centres at (n + 1/2) / 50 begin at 0.01 itself, which is not beyond it.
        (50, 0.05, range(1, 49)),
        (49, 0.05, range(49)),
        (4, 0.0101, range(4)),
        (4, 0.0099, []),
        (4, 0.9901, []),
        (4, 0.9899, range(4)),
    ],
)
def test_only_what_is_between_1_and_99_hundredths(cells, side, proposed):
    levels = feature_levels([(32, 32 * cells)], (32,), 8)

    _, proposes = proposals_of(levels, base_side=side).initial_boxes(levels)

    assert proposes[0, :, 0].nonzero().flatten().tolist() == list(proposed)


def test_a_cell_that_proposes_nothing_has_no_token():
    levels = feature_levels([(64, 128), (64, 64)], (32, 64), 8)
    module = proposals_of(levels)

    found = module(levels)

    bare = module.objectness(module.norm(module.projection.bias))
    for n in (2, 3, 6, 7, 9):
        torch.testing.assert_close(found.logits[1, n], bare)
    assert not torch.allclose(found.logits[1, 0], bare)
    assert torch.isinf(found.boxes[1, 2]).all()
    assert found.boxes[1, [0, 1, 4, 5, 8]].isfinite().all()


def test_the_first_output_chooses():
    logits = torch.tensor([[[1.0, 9.0], [3.0, 0.0], [2.0, 8.0], [0.0, 7.0]]])
    boxes = torch.arange(16.0).view(1, 4, 4).requires_grad_()
    found = Proposals(logits, boxes)

    best = found.best(2)

    assert torch.equal(best, boxes[:, [1, 2]])
    assert not best.requires_grad


def test_cells_that_propose_none_come_last_and_fill_up():
    """The second would be the best."""
    logits = torch.tensor([[[1.0], [9.0], [2.0]]])
    boxes = torch.tensor([[[0.0] * 4, [float("inf")] * 4, [1.0] * 4]])

    best = Proposals(logits, boxes).best(5)

    assert torch.equal(best[0, :2], boxes[0, [2, 0]])
    assert best[0, 2:].isinf().all()


def queries_of(num_queries=4):
    module = ProposalQueries(
        num_queries=num_queries, embed_dim=8, num_classes=3, classification=FOCAL
    )
    return draw_parameters(module).double()


def test_queries_start_at_the_best_boxes_and_are_made_of_them():
    levels = feature_levels([(64, 128), (64, 64)], (32, 64), 8)
    module = queries_of()

    queries = module(levels, None)

    best = module.proposals(levels).best(4)
    assert torch.equal(queries.references, best)
    assert queries.split is None
    coordinates = best[1, 2].sigmoid()
    # Four channels for each of x, y, w and h: two waves, sine and cosine.
    code = [
        f(2 * torch.pi * coordinate / 100**wave)
        for coordinate in coordinates
        for wave in range(2)
        for f in (torch.sin, torch.cos)
    ]
    expected = module.norm(module.projection(torch.stack(code)))
    torch.testing.assert_close(queries.position[1, 2], expected[:8])
    torch.testing.assert_close(queries.content[1, 2], expected[8:])


def test_in_training_all_proposals_have_losses_of_one_class():
    levels = feature_levels([(64, 128)], (32, 64), 8)
    target = Target(torch.tensor([2, 1]), torch.rand(2, 4, dtype=torch.float64))
    module = queries_of()

    split = module(levels, None, [target]).split({"pred_logits": 1, "more": {"other": 2}})

    assert split["pred_logits"] == 1
    assert split["more"]["other"] == 2
    more = split["more"]["enc"]
    assert more.outputs["pred_logits"].shape == (1, 1, 10, 3)
    assert more.outputs["pred_boxes"].shape == (1, 1, 10, 4)
    assert more.outputs["pred_boxes"].requires_grad
    assert more.targets[0].labels.tolist() == [0, 0]
    assert torch.equal(more.targets[0].boxes, target.boxes)
    assert more.matches is None
    assert more.weight == 1


def test_infinite_boxes_have_finite_gradients():
    levels = feature_levels([(64, 128), (64, 64)], (32, 64), 8)
    module = queries_of(num_queries=10)

    queries = module(levels, None)
    boxes = module.proposals(levels).boxes.sigmoid()
    (boxes.sum() + queries.content.sum() + queries.references.sigmoid().sum()).backward()

    assert torch.isinf(queries.references).any()
    for name, parameter in module.named_parameters():
        if parameter.grad is not None:
            assert parameter.grad.isfinite().all(), name
