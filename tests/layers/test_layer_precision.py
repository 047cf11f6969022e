import math

import pytest
import torch

from helpers.builders import draw_parameters
from smca.layers import MultiheadAttention, at_least_float32, full_precision, gaussian_log_prior

HALF = [torch.float16, torch.bfloat16]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_at_least_float32(given, expected):
    x = torch.ones(2, dtype=given)
    assert at_least_float32(x).dtype == expected


@pytest.mark.parametrize("dtype", HALF)
def test_full_precision_leaves_autocast(dtype):
    x = torch.ones(2, 2)
    with torch.autocast("cpu", dtype):
        assert (x @ x).dtype == dtype
        with full_precision(x):
            assert (x @ x).dtype == torch.float32
        assert (x @ x).dtype == dtype


def heads(dtype, *, keys=6, queries=3):
    generator = torch.Generator().manual_seed(1)
    q, k, v = (
        torch.randn(1, 2, n, 4, generator=generator).to(dtype) for n in (queries, keys, keys)
    )
    return q, k, v


def module():
    return draw_parameters(MultiheadAttention(8, 2))


def expected_output(query, key, value, bias):
    logits = query.double() @ key.double().transpose(-1, -2) / query.shape[-1] ** 0.5
    return (logits + bias.double()).softmax(-1) @ value.double()


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("constant", [0.0, 1e3, -1e3, -1e6, 7e4])
def test_a_constant_in_the_bias_changes_nothing(dtype, constant):
    query, key, value = heads(dtype)
    bias = torch.randn(1, 2, 3, 6) + constant
    found = module().attend(query, key, value, bias)
    assert found.dtype == dtype
    tolerance = 2e-3 if dtype == torch.float16 else 2e-2
    expected = expected_output(query, key, value, bias)
    torch.testing.assert_close(found.double(), expected, atol=tolerance, rtol=0)


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("center", [-2000.0, 3.0, 5000.0])
def test_a_prior_far_off_the_map(dtype, center):
    """Its log is below the smallest float16 everywhere, but the nearest cell still has the largest weight."""
    size = (2, 3)
    prior = gaussian_log_prior(
        torch.full((1, 3, 2, 2), center), torch.full((1, 3, 2, 2), 2.0), size
    )
    if abs(center) > 100:
        assert prior.max() < -65504
    query, key, value = heads(dtype)
    found = module().attend(query, key, value, prior)
    assert found.isfinite().all()
    tolerance = 2e-3 if dtype == torch.float16 else 2e-2
    torch.testing.assert_close(
        found.double(), expected_output(query, key, value, prior), atol=tolerance, rtol=0
    )


@pytest.mark.parametrize("dtype", HALF)
def test_every_query_has_a_shift_of_its_own(dtype):
    """One looks far off the map, one at it: what is right for the one makes the other's logits overflow."""
    query, key, value = heads(dtype)
    bias = torch.randn(1, 2, 3, 6) + torch.tensor([-1e6, 0.0, 7e4])[:, None]
    found = module().attend(query, key, value, bias)
    tolerance = 2e-3 if dtype == torch.float16 else 2e-2
    expected = expected_output(query, key, value, bias)
    torch.testing.assert_close(found.double(), expected, atol=tolerance, rtol=0)


@pytest.mark.parametrize("dtype", HALF)
def test_masked_cells_stay_masked(dtype):
    query, key, value = heads(dtype)
    bias = torch.randn(1, 2, 3, 6) - 5e5
    bias[..., 3:] = -math.inf
    found = module().attend(query, key, value, bias)
    changed = value.clone()
    changed[:, :, 3:] = 100.0
    assert torch.equal(module().attend(query, key, changed, bias), found)
    assert found.isfinite().all()


@pytest.mark.parametrize("dtype", HALF)
def test_the_bias_gets_its_gradient(dtype):
    query, key, value = heads(dtype)
    bias = (torch.randn(1, 2, 3, 6) - 3e5).requires_grad_()
    module().attend(query, key, value, bias).float().square().sum().backward()
    found = bias.grad
    exact = bias.detach().double().requires_grad_()
    expected_output(query, key, value, exact).square().sum().backward()
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), exact.grad, atol=3e-2, rtol=0.1)


def test_bool_masks_and_full_precision_biases_are_taken_as_they_are():
    query, key, value = heads(torch.float32)
    bias = torch.randn(1, 2, 3, 6) - 50
    found = module().attend(query, key, value, bias)
    expected = expected_output(query, key, value, bias)
    torch.testing.assert_close(found.double(), expected, atol=1e-5, rtol=0)
    mask = torch.tensor([True, True, False, True, False, True]).expand(1, 2, 3, 6)
    found = module().attend(query.half(), key.half(), value.half(), mask)
    expected = expected_output(
        query, key, value, torch.zeros(1, 2, 3, 6).masked_fill(~mask, -math.inf)
    )
    torch.testing.assert_close(found.double(), expected, atol=5e-3, rtol=0)
