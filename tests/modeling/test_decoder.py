import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call

from helpers.builders import draw_parameters, feature_levels, sizes_tensor
from helpers.oracles import DecoderOracle, image_levels, params_of
from smca.modeling import Decoder, Queries, SpatialModulation

EMBED_DIM, HEADS, LAYERS, QUERIES = 16, 4, 3, 5
# Of two sizes, neither a multiple of the strides.
IMAGES = [(70, 112), (96, 50)]
STRIDES = {1: (32,), 2: (16, 32), 3: (16, 32, 64)}

HEAD_SHARED = {"per_head": False}
FIXED = {"scale": "fixed"}
SINGLE = {"scale": "single"}
INDEPENDENT = {"scale": "independent"}
SELECTION = {"scale_selection": True}


def built_decoder(
    modulation, *, num_levels=1, share_key_value=True, dropout=0.0, num_layers=LAYERS
):
    decoder = Decoder(
        num_queries=QUERIES,
        num_layers=num_layers,
        embed_dim=EMBED_DIM,
        num_heads=HEADS,
        ffn_dim=24,
        dropout=dropout,
        num_levels=num_levels,
        share_key_value=share_key_value,
        modulation=None
        if modulation is None
        else SpatialModulation(
            embed_dim=EMBED_DIM,
            num_heads=HEADS,
            num_layers=num_layers,
            num_levels=num_levels,
            **modulation,
        ),
    )
    return draw_parameters(decoder).double()


@pytest.mark.parametrize("modulation", [None, HEAD_SHARED, FIXED, SINGLE, INDEPENDENT])
@pytest.mark.parametrize("num_levels", [1, 3])
def test_equals_loops(modulation, num_levels):
    check_against_oracle(modulation, num_levels=num_levels)


@pytest.mark.parametrize(
    ("modulation", "share_key_value"),
    [
        (SELECTION, True),
        (SELECTION, False),
        (SELECTION | SINGLE, True),
        (SELECTION | HEAD_SHARED, True),
        (SELECTION | {"beta": 3.0}, True),
        (None, False),
    ],
)
def test_scale_selection_and_own_projections_equal_loops(modulation, share_key_value):
    check_against_oracle(modulation, num_levels=3, share_key_value=share_key_value)


def check_against_oracle(modulation, *, num_levels, share_key_value=True):
    decoder = built_decoder(modulation, num_levels=num_levels, share_key_value=share_key_value)
    levels = feature_levels(IMAGES, STRIDES[num_levels], EMBED_DIM)

    decoded = decoder(levels, sizes_tensor(IMAGES))

    oracle = DecoderOracle(
        params_of(decoder),
        num_heads=HEADS,
        num_layers=LAYERS,
        modulated=modulation is not None,
        **(modulation or {}),
    )
    assert decoded.hidden.shape == (LAYERS, 2, QUERIES, EMBED_DIM)
    for b, (height, width) in enumerate(IMAGES):
        expected = oracle(image_levels(levels, b), (width, height))
        hidden = decoded.hidden[:, b].detach().numpy()
        np.testing.assert_allclose(hidden, expected.hidden, rtol=0, atol=1e-9)
        if modulation is None:
            assert decoded.references is None
            continue
        center_logits = decoded.references[0, b].detach().numpy()
        np.testing.assert_allclose(center_logits, expected.center_logits, rtol=0, atol=1e-9)
        if modulation.get("scale_selection"):
            weights = torch.stack([prior.level_weights[b] for prior in decoded.priors])
            weights = weights.detach().numpy()
            np.testing.assert_allclose(weights, expected.level_weights, rtol=0, atol=1e-9)


def test_scale_weights_of_a_query_sum_to_one():
    decoder = built_decoder(SELECTION, num_levels=3)
    levels = feature_levels(IMAGES, STRIDES[3], EMBED_DIM)

    priors = decoder(levels, sizes_tensor(IMAGES)).priors

    for prior in priors:
        assert prior.level_weights.shape == (2, QUERIES, 3)
        torch.testing.assert_close(
            prior.level_weights.sum(-1), torch.ones(2, QUERIES, dtype=torch.float64)
        )
        assert prior.level_weights.std() > 0.01


def test_full_smca_with_one_scale_is_the_single_scale_one():
    single = built_decoder(INDEPENDENT)
    full = built_decoder(SELECTION | INDEPENDENT, share_key_value=False)
    levels = feature_levels(IMAGES, (32,), EMBED_DIM)
    sizes = sizes_tensor(IMAGES)

    assert single.state_dict().keys() == full.state_dict().keys()
    assert torch.equal(full(levels, sizes).hidden, single(levels, sizes).hidden)


@pytest.mark.parametrize("modulation", [None, SELECTION])
def test_batch_of_equal_sizes_gives_what_single_images_give(modulation):
    decoder = built_decoder(modulation, num_levels=3)
    images = [(64, 96)] * 3
    levels = feature_levels(images, STRIDES[3], EMBED_DIM)

    batched = decoder(levels, sizes_tensor(images)).hidden

    for b in range(3):
        alone = [
            type(x)(x.tokens[b : b + 1], x.position[b : b + 1], None, x.size, x.stride)
            for x in levels
        ]
        torch.testing.assert_close(
            batched[:, b : b + 1],
            decoder(alone, sizes_tensor(images[:1])).hidden,
            rtol=0,
            atol=1e-12,
        )


def test_unpadded_size_of_an_image_drives_its_prior():
    decoder = built_decoder(INDEPENDENT)
    levels = feature_levels(IMAGES, (32,), EMBED_DIM)

    with torch.no_grad():
        decoder.modulation.layers[0].offset.weight.zero_()
        decoder.modulation.layers[0].offset.bias.zero_()
        prior = decoder(levels, sizes_tensor(IMAGES)).priors[0]

    relative = prior.center_logits.sigmoid()
    for b, (height, width) in enumerate(IMAGES):
        pixels = relative[b] * torch.tensor([width, height])
        expected = (pixels / 32)[:, None].expand(-1, HEADS, -1)
        torch.testing.assert_close(prior.centers[0][b], expected)


def test_training_without_dropout_equals_inference():
    decoder = built_decoder(SELECTION, num_levels=3)
    levels = feature_levels(IMAGES, STRIDES[3], EMBED_DIM)
    sizes = sizes_tensor(IMAGES)

    training = decoder.train()(levels, sizes).hidden

    assert torch.equal(training, decoder.eval()(levels, sizes).hidden)


def test_dropout_acts_in_training_only():
    decoder = built_decoder(None, dropout=0.5)
    levels = feature_levels([(64, 64)], (32,), EMBED_DIM)
    sizes = sizes_tensor([(64, 64)])

    assert not torch.equal(decoder(levels, sizes).hidden, decoder(levels, sizes).hidden)
    decoder.eval()
    assert torch.equal(decoder(levels, sizes).hidden, decoder(levels, sizes).hidden)


def test_gradient_of_the_last_layer_reaches_the_centre():
    decoder = built_decoder(INDEPENDENT)
    levels = feature_levels(IMAGES, (32,), EMBED_DIM)

    decoder(levels, sizes_tensor(IMAGES)).hidden[-1].square().sum().backward()

    for parameter in decoder.modulation.center.parameters():
        assert parameter.grad.abs().max() > 0


def test_every_layers_prior_hands_gradient_to_the_centre():
    """By finite differences: a centre that is detached for later layers still gets a gradient, but another one."""
    decoder = built_decoder(INDEPENDENT, num_layers=2)
    levels, sizes = feature_levels(IMAGES, (32,), EMBED_DIM), sizes_tensor(IMAGES)
    name = "modulation.center.layers.2.bias"

    def last_hidden(bias):
        return functional_call(decoder, {name: bias}, (levels, sizes)).hidden[-1]

    assert torch.autograd.gradcheck(
        last_hidden, decoder.get_parameter(name).detach().requires_grad_()
    )


def test_every_layer_is_normalised_by_the_same_output_norm():
    decoder = built_decoder(None)
    nn.init.ones_(decoder.norm.weight)
    nn.init.zeros_(decoder.norm.bias)

    hidden = decoder(feature_levels(IMAGES, (32,), EMBED_DIM), sizes_tensor(IMAGES)).hidden

    torch.testing.assert_close(hidden.mean(-1), torch.zeros(hidden.shape[:-1]).double())
    assert hidden.std(-1, unbiased=False).sub(1).abs().max() < 1e-3


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"num_layers": 2}, "2 layers, 1 levels and 4 heads"),
        ({"num_levels": 3}, "3 layers, 3 levels and 4 heads"),
        ({"num_heads": 8}, "3 layers, 1 levels and 8 heads"),
    ],
)
def test_modulation_of_another_shape_is_an_error(asked, words):
    shape = {"num_layers": LAYERS, "num_levels": 1, "num_heads": HEADS} | asked
    modulation = SpatialModulation(embed_dim=EMBED_DIM, **shape)

    with pytest.raises(ValueError, match=f"modulation was built for {words}"):
        Decoder(num_layers=LAYERS, embed_dim=EMBED_DIM, num_heads=HEADS, modulation=modulation)


class Anchored(torch.nn.Module):
    """Queries that start at points of their own."""

    def forward(self, levels, image_sizes, targets=None):
        zeros = torch.zeros(len(image_sizes), QUERIES, EMBED_DIM).double()
        return Queries(zeros, zeros + 1, references=torch.ones_like(zeros[..., :4]))


@pytest.mark.parametrize("modulation", [None, INDEPENDENT])
def test_boxes_are_relative_to_the_prior_and_without_one_to_the_queries(modulation):
    decoder = built_decoder(modulation)
    decoder.query_embedding = Anchored()
    decoded = decoder(feature_levels(IMAGES, (32,), EMBED_DIM), sizes_tensor(IMAGES))
    if modulation is None:
        assert torch.equal(decoded.references, torch.ones(1, 2, QUERIES, 4).double())
    else:
        assert torch.equal(decoded.references, decoded.priors[0].center_logits[None])
