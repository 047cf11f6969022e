import pytest
import torch
from torch import nn

from helpers.builders import draw_parameters, feature_levels, sizes_tensor
from smca.modeling import FocalClassification, Target
from smca.modeling.plus import GroupedQueries, SelectedQueries
from smca.modeling.plus.selection import cell_boxes

IMAGES = [(70, 112), (96, 50)]
TARGETS = [Target(torch.tensor([1]), torch.tensor([[0.3, 0.4, 0.2, 0.2]]))] * 2


def selecting(num_queries=3, **options):
    settings = {"embed_dim": 16, "num_classes": 5, "classification": FocalClassification()}
    part = SelectedQueries(num_queries=num_queries, **settings, **options)
    return draw_parameters(part).double()


@pytest.mark.parametrize("strides", [(16,), (16, 32)])
def test_equals_loops(strides):
    levels, sizes = feature_levels(IMAGES, strides, 16), sizes_tensor(IMAGES)
    part = selecting(cell_side=3.0)
    queries = part(levels, sizes, TARGETS)
    outputs = queries.split({})["more"]["encoder"].outputs
    for b, (height, width) in enumerate(IMAGES):
        proposals = []
        for level in levels:
            for cell, token in enumerate(level.tokens[b]):
                x = (cell % level.size[1] + 0.5) * level.stride / width
                y = (cell // level.size[1] + 0.5) * level.stride / height
                if not (0.01 < x < 0.99 and 0.01 < y < 0.99):
                    continue
                hidden = part.norm(part.token(token))
                side = 3 * level.stride
                box = torch.tensor([x, y, side / width, side / height], dtype=torch.float64)
                logits = part.classifier(hidden)
                box = box.clamp(0.01, 0.99).logit() + part.box(hidden)
                proposals.append((logits.max().item(), logits, box))
        proposals.sort(key=lambda proposal: -proposal[0])
        for q, (_, logits, box) in enumerate(proposals[:3]):
            torch.testing.assert_close(queries.references[b, q], box)
            torch.testing.assert_close(outputs["pred_logits"][0, b, q], logits)
            torch.testing.assert_close(outputs["pred_boxes"][0, b, q], box.sigmoid())
    assert torch.equal(queries.content[1], part.content.weight)


def test_padding_proposes_nothing():
    levels, sizes = feature_levels(IMAGES, (16,), 16), sizes_tensor(IMAGES)
    boxes, valid = cell_boxes(levels, sizes, 2.0)
    assert torch.isfinite(boxes).all()
    assert not (valid & levels[0].padding_mask).any()
    # Middles of cells 4 by 7 and 6 by 3 are inside of 70 x 112 and 96 x 50 pixels.
    assert valid.sum(1).tolist() == [4 * 7, 6 * 3]
    part = selecting()
    for changed in (
        levels[0].tokens,
        levels[0].tokens.masked_fill(levels[0].padding_mask[..., None], 100.0),
    ):
        found = part([levels[0].with_tokens(changed)], sizes).references
        expected = part(levels, sizes).references
        torch.testing.assert_close(found, expected)


def test_what_is_no_cell_is_never_taken():
    """Even if it would score best: the classifier looks for what padding looks like."""
    levels, sizes = feature_levels(IMAGES, (16,), 16), sizes_tensor(IMAGES)
    part = selecting(num_queries=10)
    with torch.no_grad():
        nn.init.zeros_(part.norm.bias)
        nn.init.ones_(part.norm.weight)
        padding = part.norm(part.token(torch.zeros(16, dtype=torch.float64)))
        part.classifier.weight.copy_(padding.expand(5, -1))
        for layer in part.box.layers:
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
    centers = part(levels, sizes).references.sigmoid()[..., :2]
    cells = centers * sizes[:, None] / 16 + 0.5
    torch.testing.assert_close(cells, cells.round())


def test_gradients_reach_the_proposals_by_their_own_loss_only():
    levels, sizes = feature_levels(IMAGES, (16,), 16), sizes_tensor(IMAGES)
    part = selecting()
    queries = part(levels, sizes, TARGETS)
    assert not queries.references.requires_grad
    outputs = queries.split({})["more"]["encoder"].outputs
    (outputs["pred_logits"].sum() + outputs["pred_boxes"].sum()).backward()
    without = {name for name, p in part.named_parameters() if p.grad is None}
    assert without == {"content.weight"}


def test_starts_as_boxes_around_cells():
    part = SelectedQueries(
        num_queries=2, embed_dim=16, num_classes=5, classification=FocalClassification()
    ).double()
    levels, sizes = feature_levels([(64, 64)], (16,), 16), sizes_tensor([(64, 64)])
    boxes = part(levels, sizes).references.sigmoid()
    torch.testing.assert_close(boxes[..., 2:], torch.full((1, 2, 2), 0.5, dtype=torch.float64))
    middles = torch.full((1, 2, 2), 0.5, dtype=torch.float64)
    torch.testing.assert_close(boxes[..., :2] * 4 % 1, middles)
    assert part.classifier.bias[0].item() == pytest.approx(-4.595, abs=1e-3)


def test_fewer_cells_than_queries():
    part = selecting(num_queries=20)
    queries = part(feature_levels([(64, 96)], (32,), 16), sizes_tensor([(64, 96)]))
    assert queries.content.shape == (1, 20, 16)
    assert queries.split is None
    # Beyond the six cells they start at the middle.
    assert (queries.references[:, :6] != 0).all()
    assert (queries.references[:, 6:] == 0).all()


def test_nothing_reaches_what_is_padding():
    levels, sizes = feature_levels(IMAGES, (16,), 16), sizes_tensor(IMAGES)
    tokens = levels[0].tokens.requires_grad_()
    queries = selecting(num_queries=60)([levels[0].with_tokens(tokens)], sizes, TARGETS)
    outputs = queries.split({})["more"]["encoder"].outputs
    (outputs["pred_logits"].sum() + outputs["pred_boxes"].sum()).backward()
    _, valid = cell_boxes(levels, sizes, 2.0)
    assert (tokens.grad[~valid] == 0).all()
    assert (tokens.grad[valid] != 0).any(-1).all()


def test_groups_select_each_for_itself():
    grouped = GroupedQueries(queries=selecting(), num_groups=2).double()
    for parameter in grouped.groups[1].box.parameters():
        nn.init.normal_(parameter)
    levels, sizes = feature_levels(IMAGES, (16,), 16), sizes_tensor(IMAGES)
    queries = grouped(levels, sizes, TARGETS)
    first, second = (group(levels, sizes).references for group in grouped.groups)
    assert not torch.allclose(first, second)
    torch.testing.assert_close(queries.references, torch.cat([first, second], 1))
    more = queries.split({"pred_logits": torch.zeros(1, 2, 6, 5)})["more"]
    assert {name: part.weight for name, part in more.items()} == {
        "encoder": 0.5,
        "group1": 0.5,
        "group1_encoder": 0.5,
    }


def test_bad_settings_are_refused():
    for weight in (-1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=r"queries\.weight"):
            selecting(weight=weight)
    with pytest.raises(ValueError, match=r"queries\.cell_side"):
        selecting(cell_side=0)
