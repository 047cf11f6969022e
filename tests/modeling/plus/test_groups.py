import pytest
import torch
from torch import nn

from helpers.builders import draw_parameters, feature_levels, sizes_tensor
from smca.modeling import (
    Decoder,
    FocalClassification,
    HungarianMatcher,
    LearnedQueries,
    SetCriterion,
    SpatialModulation,
    Target,
)
from smca.modeling.plus import AnchorQueries, GroupedQueries

IMAGES = [(70, 112), (96, 50)]
TARGETS = [
    Target(torch.tensor([1, 0]), torch.tensor([[0.3, 0.4, 0.2, 0.2], [0.7, 0.6, 0.3, 0.2]])),
    Target(torch.tensor([2]), torch.tensor([[0.5, 0.5, 0.4, 0.4]])),
]


def built_decoder(queries):
    decoder = Decoder(
        num_layers=2,
        embed_dim=16,
        num_heads=4,
        ffn_dim=24,
        dropout=0.0,
        queries=queries,
        modulation=SpatialModulation(embed_dim=16, num_heads=4, num_layers=2),
    )
    return draw_parameters(decoder).double()


def test_each_group_is_decoded_as_if_alone():
    """With the paper's queries and prior, as with anchors: C needs nothing else."""
    for source in (LearnedQueries(3, 16), AnchorQueries(num_queries=3, embed_dim=16)):
        decoder = built_decoder(GroupedQueries(queries=source, num_groups=3))
        levels, sizes = feature_levels(IMAGES, (32,), 16), sizes_tensor(IMAGES)
        together = decoder(levels, sizes, TARGETS).hidden
        assert together.shape == (2, 2, 9, 16)
        alone = decoder(levels, sizes).hidden
        assert alone.shape == (2, 2, 3, 16)
        torch.testing.assert_close(together[:, :, :3], alone)
        source = decoder.query_embedding
        source.groups[0], source.groups[2] = source.groups[2], source.groups[0]
        torch.testing.assert_close(together[:, :, 6:], decoder(levels, sizes).hidden)


def test_groups_start_apart():
    groups = GroupedQueries(queries=LearnedQueries(3, 16), num_groups=3).groups
    assert not any(torch.equal(groups[0].weight, group.weight) for group in groups[1:])
    assert not torch.equal(groups[1].weight, groups[2].weight)


def test_mask_and_split():
    queries = GroupedQueries(queries=LearnedQueries(2, 16), num_groups=2)(
        [], torch.ones(2, 2), TARGETS
    )
    expected = torch.tensor(
        [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]], dtype=torch.bool
    )
    assert torch.equal(queries.attention_mask, expected)
    logits = torch.arange(4.0).view(1, 1, 4, 1)
    outputs = queries.split({"pred_logits": logits})
    assert outputs["pred_logits"].flatten().tolist() == [0, 1]
    assert outputs["weight"] == 0.5
    (name,), (more,) = outputs["more"].keys(), outputs["more"].values()
    assert (name, more.weight, more.matches) == ("group1", 0.5, None)
    assert more.outputs["pred_logits"].flatten().tolist() == [2, 3]


def test_losses_are_averaged_over_groups():
    """Alike groups have together the loss of one, and its gradient in parts."""
    classification = FocalClassification()
    criterion = SetCriterion(
        matcher=HungarianMatcher(classification=classification), classification=classification
    )
    torch.manual_seed(0)
    one = {"pred_logits": torch.randn(2, 2, 5, 3), "pred_boxes": torch.rand(2, 2, 5, 4) * 0.5 + 0.2}
    plain = criterion(one, TARGETS)
    queries = GroupedQueries(queries=LearnedQueries(5, 16), num_groups=3)(
        [], torch.ones(2, 2), TARGETS
    )
    three = {name: values.repeat(1, 1, 3, 1) for name, values in one.items()}
    grouped = criterion(queries.split(three), TARGETS)
    assert len(grouped) == 3 * len(plain)
    for name, value in plain.items():
        parts = [grouped[prefix + name] for prefix in ("", "group1_", "group2_")]
        torch.testing.assert_close(torch.stack(parts), (value / 3).expand(3))


def test_bad_settings_are_refused():
    with pytest.raises(ValueError, match=r"queries.num_groups must be at least 1, got 0"):
        GroupedQueries(queries=LearnedQueries(2, 16), num_groups=0)
    with pytest.raises(ValueError, match="no reset_parameters"):
        GroupedQueries(queries=nn.Identity(), num_groups=2)
