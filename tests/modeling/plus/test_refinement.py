import pytest
import torch
from torch import nn

from helpers.builders import draw_parameters, feature_levels, sizes_tensor
from smca.modeling import Decoder
from smca.modeling.plus import AnchorQueries, BoxRefinement, ReferencePosition

IMAGES = [(70, 112), (96, 50)]


def constant_steps(refinement, steps):
    """Each layer's MLP gives one number for all coordinates, whatever its input."""
    for mlp, step in zip(refinement.steps, steps, strict=True):
        nn.init.zeros_(mlp.layers[-1].weight)
        nn.init.constant_(mlp.layers[-1].bias, step)


@pytest.mark.parametrize("look_forward_twice", [False, True])
def test_box_is_reference_plus_step(look_forward_twice):
    refinement = BoxRefinement(
        embed_dim=8, num_layers=2, share_layers=False, look_forward_twice=look_forward_twice
    )
    hidden, reference = torch.randn(2, 3, 8), torch.randn(2, 3, 4)
    for moved in refinement(1, hidden, reference):
        assert torch.equal(moved, reference)  # as it starts
    constant_steps(refinement, [0.5, -2.0])
    for layer, step in enumerate([0.5, -2.0]):
        for moved in refinement(layer, hidden, reference):
            torch.testing.assert_close(moved, reference + step)
    box, following = refinement(0, hidden, reference[..., :2])
    expected = torch.cat([reference[..., :2] + 0.5, torch.full((2, 3, 2), 0.5)], -1)
    torch.testing.assert_close(box, expected)
    torch.testing.assert_close(following, expected)


def test_shared_layers_are_one_mlp():
    assert len(BoxRefinement(embed_dim=8, num_layers=6).steps) == 1
    assert len(BoxRefinement(embed_dim=8, num_layers=6, share_layers=False).steps) == 6


def refining_decoder(look_forward_twice):
    decoder = Decoder(
        num_layers=3,
        embed_dim=16,
        num_heads=4,
        ffn_dim=24,
        dropout=0.0,
        queries=AnchorQueries(num_queries=5, embed_dim=16),
        query_position=ReferencePosition(embed_dim=16),
        refinement=BoxRefinement(
            embed_dim=16,
            num_layers=3,
            share_layers=False,
            look_forward_twice=look_forward_twice,
        ),
    )
    return draw_parameters(decoder).double()


def test_decoder_moves_references_and_positions():
    decoder = refining_decoder(False)
    decoded = decoder(feature_levels(IMAGES, (32,), 16), sizes_tensor(IMAGES))
    anchors = decoder.query_embedding.anchors.weight.expand(2, -1, -1)
    assert torch.equal(decoded.references[0], anchors)
    assert torch.equal(decoded.references[1:], decoded.boxes[:-1])
    for layer in range(3):
        step = decoder.refinement.steps[layer](decoded.hidden[layer])
        torch.testing.assert_close(decoded.boxes[layer], decoded.references[layer] + step)


@pytest.mark.parametrize(
    ("look_forward_twice", "reached"),
    [(False, {0: {0}, 1: {1}, 2: {2}}), (True, {0: {0}, 1: {0, 1}, 2: {1, 2}})],
)
def test_loss_of_a_layer_reaches_its_step_and_no_earlier_one_but_the_last(
    look_forward_twice, reached
):
    decoder = refining_decoder(look_forward_twice)
    decoded = decoder(feature_levels(IMAGES, (32,), 16), sizes_tensor(IMAGES))
    for layer, expected in reached.items():
        gradients = torch.autograd.grad(
            decoded.boxes[layer].sum(),
            [mlp.layers[-1].bias for mlp in decoder.refinement.steps],
            retain_graph=True,
            allow_unused=True,
        )
        found = {i for i, g in enumerate(gradients) if g is not None and g.abs().sum() > 0}
        assert found == expected


@pytest.mark.parametrize("look_forward_twice", [False, True])
def test_anchors_learn_from_where_they_are_used(look_forward_twice):
    decoder = refining_decoder(look_forward_twice)
    decoded = decoder(feature_levels(IMAGES, (32,), 16), sizes_tensor(IMAGES))
    # By the box of the first layer directly, by that of the others through positions of the first.
    (gradient,) = torch.autograd.grad(
        decoded.boxes[0].sum(), decoder.query_embedding.anchors.weight
    )
    assert (gradient.abs() > 0).all()


def test_references_at_or_beyond_a_border_stay_finite():
    refinement = BoxRefinement(embed_dim=8, num_layers=1)
    reference = torch.tensor([[[float("inf"), float("-inf"), 30.0, 2.0]]])
    box, following = refinement(0, torch.randn(1, 1, 8), reference)
    farthest = torch.tensor(1e5).log()
    expected = torch.stack([farthest, -farthest, farthest, torch.tensor(2.0)]).view(1, 1, 4)
    torch.testing.assert_close(box, expected)
    torch.testing.assert_close(following, expected)
