"""Deformable attention against loops over queries, heads, levels, points and corners, in float64."""

import math

import numpy as np
import pytest
import torch

from helpers.builders import draw_parameters
from helpers.oracles import affine, params_of, softmax
from smca.layers import DeformableAttention, sine_coordinate_encoding
from smca.layers.level_sampling import gather_corners, sample_grids

EMBED_DIM, HEADS, POINTS = 12, 3, 2
# None is square, and one is a single row.
SIZES = [(3, 5), (4, 2), (1, 3)]
CELLS = sum(h * w for h, w in SIZES)


def built():
    return draw_parameters(
        DeformableAttention(EMBED_DIM, HEADS, num_levels=len(SIZES), num_points=POINTS)
    ).double()


def drawn(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def inputs(dims, *, padded):
    reference = torch.rand(2, 4, len(SIZES), dims, dtype=torch.float64)
    mask = torch.rand(2, CELLS) < 0.3 if padded else None
    return drawn(2, 4, EMBED_DIM), reference, drawn(2, CELLS, EMBED_DIM), mask


def bilinear(cells, size, x, y):
    """Linear between the centres of cells, at (x, y) in [0, 1] of the map; zero beyond them."""
    h, w = size
    column, row = x * w - 0.5, y * h - 0.5
    total = np.zeros(cells.shape[-1])
    for i in (math.floor(row), math.floor(row) + 1):
        for j in (math.floor(column), math.floor(column) + 1):
            if 0 <= i < h and 0 <= j < w:
                total += (1 - abs(row - i)) * (1 - abs(column - j)) * cells[i * w + j]
    return total


def expected_output(params, query, reference, values, mask):
    """For one image."""
    projected = np.array([affine(params, "value", v) for v in values])
    if mask is not None:
        projected[mask] = 0
    starts = np.cumsum([0] + [h * w for h, w in SIZES])
    rows = []
    for q, x in enumerate(query):
        offsets = affine(params, "sampling_offsets", x).reshape(HEADS, len(SIZES), POINTS, 2)
        logits = affine(params, "attention_weights", x).reshape(HEADS, -1)
        heads = []
        for head, part in enumerate(np.split(projected, HEADS, axis=1)):
            weights = np.array(softmax(list(logits[head]))).reshape(len(SIZES), POINTS)
            total = 0
            for s, (h, w) in enumerate(SIZES):
                point = reference[q, s]
                for k in range(POINTS):
                    d_x, d_y = offsets[head, s, k]
                    if len(point) == 2:
                        d_x, d_y = d_x / w, d_y / h
                    else:
                        d_x, d_y = d_x / POINTS * point[2] / 2, d_y / POINTS * point[3] / 2
                    cells = part[starts[s] : starts[s + 1]]
                    found = bilinear(cells, (h, w), point[0] + d_x, point[1] + d_y)
                    total = total + weights[s, k] * found
            heads.append(total)
        rows.append(affine(params, "out_proj", np.concatenate(heads)))
    return np.array(rows)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("dims", [2, 4])
def test_equals_loops(dims, padded, training):
    """With gradients and without, which are two ways to sample."""
    module = built()
    query, reference, values, mask = inputs(dims, padded=padded)

    with torch.set_grad_enabled(training):
        found = module(query, reference, values, SIZES, mask).detach().numpy()

    params = params_of(module)
    for b in range(2):
        own_mask = None if mask is None else mask[b].numpy()
        expected = expected_output(
            params, query[b].numpy(), reference[b].numpy(), values[b].numpy(), own_mask
        )
        np.testing.assert_allclose(found[b], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dims", [2, 4])
def test_gradients_are_exact(dims):
    module = built()
    query, reference, values, mask = inputs(dims, padded=True)
    given = [t[:1, :2].clone().requires_grad_() for t in (query, reference)]
    values = values[:1].clone().requires_grad_()

    def output(query, reference, values, *_):
        return module(query, reference, values, SIZES, mask[:1])

    assert torch.autograd.gradcheck(
        output, (*given, values, module.sampling_offsets.weight), eps=1e-7, atol=1e-5
    )


def test_offsets_start_as_a_ring_and_weights_equal():
    module = DeformableAttention(32, 8, num_levels=2, num_points=3)

    assert not module.sampling_offsets.weight.any()
    assert not module.attention_weights.weight.any()
    assert not module.attention_weights.bias.any()
    offsets = module.sampling_offsets.bias.detach().view(8, 2, 3, 2)
    ring = [(1, 0), (1, 1), (0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1)]
    for level in range(2):
        for k in range(3):
            expected = (k + 1) * torch.tensor(ring, dtype=torch.float32)
            torch.testing.assert_close(offsets[:, level, k], expected, atol=1e-5, rtol=0)


def test_half_precision_keeps_its_places():
    """An offset of a few cells on a wide map is below the precision of bfloat16 there."""
    module = DeformableAttention(16, 2, num_points=1)
    values = torch.randn(1, 512, 16)
    reference = torch.full((1, 8, 1, 2), 0.5)
    reference[..., 0] = torch.linspace(0.4, 0.6, 8)[:, None]
    query = torch.randn(1, 8, 16)

    exact = module(query, reference, values, [(1, 512)])
    with torch.autocast("cpu", torch.bfloat16):
        rounded = module(query, reference, values, [(1, 512)])

    assert rounded.dtype == torch.bfloat16
    torch.testing.assert_close(rounded.float(), exact, atol=0.05, rtol=0.05)


@pytest.mark.parametrize("sample", [sample_grids, gather_corners])
def test_places_of_all_kinds(sample):
    """At borders, on cells, and far outside of the map."""
    values = torch.arange(1.0, 7.0, dtype=torch.float64).view(1, 6, 1, 1)
    places = {
        (0.5, 0.5): 3.5,
        (1 / 6, 0.25): 1.0,
        (0.0, 0.25): 0.5,
        (0.0, 0.0): 0.25,
        (1.0, 1.0): 1.5,
        (5 / 6, 1.1): 0.3 * 6,
        (-1.0, 0.5): 0.0,
        (1e30, -1e30): 0.0,
    }
    locations = torch.tensor(list(places), dtype=torch.float64).view(1, -1, 1, 1, 1, 2)
    weights = torch.ones(1, len(places), 1, 1, 1, dtype=torch.float64)

    found = sample(values, [(2, 3)], locations, 2 * weights)

    expected = 2 * torch.tensor(list(places.values()), dtype=torch.float64)
    torch.testing.assert_close(found[0, :, 0], expected, atol=1e-12, rtol=0)


def test_heads_must_divide_the_channels():
    with pytest.raises(ValueError, match=r"embed_dim \(10\) must be divisible by num_heads \(4\)"):
        DeformableAttention(10, 4)


def test_code_of_coordinates():
    found = sine_coordinate_encoding(torch.tensor([[0.25, 0.5]]), 4, temperature=100.0)

    angles = [math.pi / 2, math.pi / 2 / 10, math.pi, math.pi / 10]
    expected = [f(angle) for angle in angles for f in (math.sin, math.cos)]
    torch.testing.assert_close(found, torch.tensor([expected]), atol=1e-6, rtol=0)
