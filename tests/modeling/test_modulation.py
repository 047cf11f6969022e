import pytest
import torch

from helpers.builders import draw_parameters, feature_levels, sizes_tensor
from smca.modeling import SpatialModulation

EMBED_DIM, HEADS, LAYERS, QUERIES = 16, 4, 2, 5
IMAGES = [(64, 128), (128, 96)]


def built(**options):
    modulation = SpatialModulation(
        embed_dim=EMBED_DIM, num_heads=HEADS, num_layers=LAYERS, **options
    )
    return draw_parameters(modulation).double()


def prior_of(modulation, strides=(32,), *, layer=0, previous=None):
    levels = feature_levels(IMAGES, strides, EMBED_DIM)
    query = torch.randn(2, QUERIES, EMBED_DIM, dtype=torch.float64)
    return modulation(layer, query, previous, levels, sizes_tensor(IMAGES))


def test_head_shared_prior_has_one_head_without_offset():
    modulation = built(per_head=False)

    prior = prior_of(modulation)

    assert prior.centers[0].shape == prior.scales[0].shape == (2, QUERIES, 1, 2)
    assert prior.log_prior(0, (4, 4)).dense().shape == (2, 1, QUERIES, 16)
    assert all(layer.offset is None for layer in modulation.layers)
    cells = prior.center_logits.sigmoid() * sizes_tensor(IMAGES)[:, None] / 32
    torch.testing.assert_close(prior.centers[0][:, :, 0], cells)


def test_fixed_scale_is_one_and_has_no_layer():
    modulation = built(scale="fixed")

    prior = prior_of(modulation)

    assert (prior.scales[0] == 1).all()
    assert all(layer.scale is None for layer in modulation.layers)
    assert prior.centers[0].shape == (2, QUERIES, HEADS, 2)


def test_single_scale_is_the_same_for_both_axes_and_differs_between_heads():
    prior = prior_of(built(scale="single"))

    scale = prior.scales[0]
    assert torch.equal(scale[..., 0], scale[..., 1])
    assert scale.shape == (2, QUERIES, HEADS, 2)
    assert scale[..., 0].std(-1).min() > 0


def test_independent_scales_differ_between_axes():
    scale = prior_of(built(scale="independent")).scales[0]

    assert (scale[..., 0] - scale[..., 1]).abs().min() > 0


def test_later_layers_reuse_the_centre():
    modulation = built()
    first = prior_of(modulation)

    prior = prior_of(modulation, layer=1, previous=first)

    assert prior.center_logits is first.center_logits
    assert torch.equal(prior.references, first.center_logits[None])


def test_every_level_has_its_own_cells_offsets_and_bandwidth():
    modulation = built(num_levels=3)
    for layer in modulation.layers:
        torch.nn.init.zeros_(layer.offset.weight)
        layer.offset.bias.data = torch.arange(3 * HEADS * 2, dtype=torch.float64)

    prior = prior_of(modulation, (16, 32, 64))

    relative = prior.center_logits.sigmoid() * sizes_tensor(IMAGES)[:, None]
    for s, stride in enumerate((16, 32, 64)):
        offset = torch.arange(HEADS * 2).view(HEADS, 2) + s * HEADS * 2
        torch.testing.assert_close(prior.centers[s], (relative / stride)[:, :, None] + offset)
    # The exponent is multiplied by 0.5, 1 and 2.
    assert prior.betas == [16.0, 8.0, 4.0]


def test_scale_selection_needs_several_levels():
    assert prior_of(built(scale_selection=True)).level_weights is None
    selected = prior_of(built(scale_selection=True, num_levels=2), (16, 32))
    assert selected.level_weights.shape == (2, QUERIES, 2)
    assert prior_of(built(num_levels=2), (16, 32)).level_weights is None


def test_half_precision_queries_are_computed_in_float32():
    modulation = built().bfloat16()
    levels = feature_levels(IMAGES, (32,), EMBED_DIM)
    query = torch.randn(2, QUERIES, EMBED_DIM, dtype=torch.bfloat16)

    prior = modulation(0, query, None, levels, sizes_tensor(IMAGES).float())

    assert prior.centers[0].dtype == torch.float32
    assert prior.log_prior(0, (4, 4)).dense().dtype == torch.float32


def test_unknown_scale_is_an_error():
    with pytest.raises(ValueError, match=r"modulation\.scale .*'wide'"):
        built(scale="wide")


@pytest.mark.parametrize("beta", [0.0, -8.0, float("nan")])
def test_beta_must_be_positive(beta):
    with pytest.raises(ValueError, match=r"modulation\.beta must be positive"):
        built(beta=beta)
