import pytest
import torch

from helpers.builders import draw_parameters, feature_levels, sizes_tensor
from smca.modeling import Decoder, SpatialModulation
from smca.modeling.plus import AnchorQueries, BoxModulation

IMAGES = [(70, 112), (96, 50)]
SHAPE = {"embed_dim": 16, "num_heads": 4, "num_layers": 2}


def drawn(num_levels, **options):
    modulation = BoxModulation(**SHAPE, num_levels=num_levels, **options)
    return draw_parameters(modulation).double()


@pytest.mark.parametrize(("strides", "selection"), [((32,), False), ((8, 16, 32), True)])
def test_equals_loops(strides, selection):
    modulation = drawn(len(strides), scale_selection=selection, typical_side=40.0)
    levels, sizes = feature_levels(IMAGES, strides, 16), sizes_tensor(IMAGES)
    generator = torch.Generator().manual_seed(1)
    located = torch.randn(2, 3, 16, generator=generator, dtype=torch.float64)
    reference = torch.randn(2, 3, 4, generator=generator, dtype=torch.float64)
    # Narrower than a cell of stride 8.
    reference[0, 1, 2:] = -4.0

    prior = modulation(1, located, None, levels, sizes, reference)

    predictor = modulation.layers[1]
    o_q = predictor.norm(located)
    offsets = predictor.offset(o_q).view(2, 3, len(strides), 4, 2)
    scales = predictor.scale(o_q).view(2, 3, len(strides), 4, 2)
    beta = 4 * 8 * 32**2 / 40**2
    for s, level in enumerate(levels):
        h, w = level.size
        found = prior.log_prior(s, level.size).dense()
        assert found.shape == (2, 4, 3, h * w)
        for b, (height, width) in enumerate(IMAGES):
            for q in range(3):
                x, y, box_w, box_h = (
                    reference[b, q].sigmoid() * torch.tensor([width, height, width, height])
                ).tolist()
                half_w, half_h = max(box_w, level.stride) / 2, max(box_h, level.stride) / 2
                for head in range(4):
                    dx, dy = offsets[b, q, s, head].tolist()
                    sx, sy = scales[b, q, s, head].tolist()
                    for cell in range(h * w):
                        px = (cell % w + 0.5) * level.stride
                        py = (cell // w + 0.5) * level.stride
                        u = (px - x - dx * half_w) / half_w * sx
                        v = (py - y - dy * half_h) / half_h * sy
                        assert found[b, head, q, cell].item() == pytest.approx(
                            -(u * u + v * v) / beta
                        )
    if selection:
        torch.testing.assert_close(prior.level_weights, predictor.level_selection(o_q).softmax(-1))
    else:
        assert prior.level_weights is None


def test_a_typical_box_starts_with_the_papers_prior():
    """At the same centre and for every head, when offsets are 0; the paper's cells are half a cell off."""
    levels, sizes = feature_levels([(320, 256)], (32,), 16), sizes_tensor([(320, 256)])
    paper = SpatialModulation(**SHAPE).double()
    ours = BoxModulation(**SHAPE, typical_side=96.0).double()
    for modulation in (paper, ours):
        for layer in modulation.layers:
            torch.nn.init.zeros_(layer.offset.weight)
            torch.nn.init.zeros_(layer.offset.bias)
    located = torch.randn(1, 3, 16, dtype=torch.float64)
    expected = paper(0, located, None, levels, sizes)
    center = expected.center_logits.sigmoid() + 16 / sizes[:, None]
    side = (96 / sizes[:, None]).expand_as(center)
    found = ours(0, located, None, levels, sizes, torch.cat([center, side], -1).logit())
    torch.testing.assert_close(
        found.log_prior(0, levels[0].size).dense(), expected.log_prior(0, levels[0].size).dense()
    )


def test_a_prior_is_as_wide_as_its_box():
    levels, sizes = feature_levels([(320, 320)], (32,), 16), sizes_tensor([(320, 320)])
    ours = BoxModulation(**SHAPE).double()
    torch.nn.init.zeros_(ours.layers[0].offset.weight)
    torch.nn.init.zeros_(ours.layers[0].offset.bias)
    boxes = torch.tensor([[0.55, 0.45, 0.2, 0.4], [0.55, 0.45, 0.4, 0.8]], dtype=torch.float64)
    prior = ours(0, torch.randn(1, 2, 16).double(), None, levels, sizes, boxes.logit()[None])
    first, second = prior.log_prior(0, (10, 10)).dense()[0, 0].view(2, 10, 10)
    # The box's centre is the middle of cell (5, 4): twice the box, the same at twice the distance.
    assert first[4, 5].item() == pytest.approx(0.0, abs=1e-9)
    assert second[4, 7].item() == pytest.approx(first[4, 6].item())
    assert second[8, 5].item() == pytest.approx(first[6, 5].item())


def test_finite_for_any_box():
    levels, sizes = feature_levels(IMAGES, (8,), 16), sizes_tensor(IMAGES)
    modulation = BoxModulation(**SHAPE).double()
    reference = torch.full((2, 3, 4), -50.0, dtype=torch.float64, requires_grad=True)
    prior = modulation(0, torch.randn(2, 3, 16).double(), None, levels, sizes, reference)
    bias = prior.log_prior(0, levels[0].size).dense()
    (gradient,) = torch.autograd.grad(bias.sum(), reference)
    assert torch.isfinite(bias).all()
    assert torch.isfinite(gradient).all()
    # Bounded by the image: 14 cells of half widths of half a cell.
    assert bias.min() > -2 * 40**2 / modulation.beta


def test_single_precision_at_least():
    modulation = BoxModulation(**SHAPE).bfloat16()
    levels, sizes = feature_levels(IMAGES, (8,), 16), sizes_tensor(IMAGES)
    located, reference = torch.randn(2, 3, 16).bfloat16(), torch.randn(2, 3, 4).bfloat16()
    prior = modulation(0, located, None, levels, sizes, reference)
    assert prior.log_prior(0, levels[0].size).dense().dtype == torch.float32


def test_a_decoder_without_boxes_is_refused():
    decoder = Decoder(num_layers=2, embed_dim=16, num_heads=4, modulation=BoxModulation(**SHAPE))
    with pytest.raises(ValueError, match="queries gives no references"):
        decoder(feature_levels(IMAGES, (32,), 16), sizes_tensor(IMAGES))
    with pytest.raises(ValueError, match="built for 2 layers"):
        Decoder(
            num_layers=3,
            embed_dim=16,
            num_heads=4,
            modulation=BoxModulation(**SHAPE),
            queries=AnchorQueries(num_queries=3, embed_dim=16),
        )
    with pytest.raises(ValueError, match="typical_side"):
        BoxModulation(**SHAPE, typical_side=0)
