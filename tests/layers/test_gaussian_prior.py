import pytest
import torch
from torch import Tensor

from smca.layers import gaussian_log_prior

SIZE = (3, 5)


def naive_log_prior(center: Tensor, scale: Tensor, size: tuple[int, int], beta: float) -> Tensor:
    batch, queries, heads, _ = center.shape
    result = torch.zeros(batch, heads, queries, size[0] * size[1], dtype=torch.float64)
    for b in range(batch):
        for q in range(queries):
            for n in range(heads):
                c_x, c_y = center[b, q, n].tolist()
                s_x, s_y = scale[b, q, n].tolist()
                for j in range(size[0]):
                    for i in range(size[1]):
                        exponent = (i - c_x) ** 2 * s_x**2 / beta + (j - c_y) ** 2 * s_y**2 / beta
                        result[b, n, q, j * size[1] + i] = -exponent
    return result


@pytest.mark.parametrize("heads", [1, 4])
@pytest.mark.parametrize("beta", [8.0, 3.0])
def test_equals_loops(heads, beta):
    center = torch.rand(2, 3, heads, 2, dtype=torch.float64) * 6 - 1
    scale = torch.randn(2, 3, heads, 2, dtype=torch.float64)

    result = gaussian_log_prior(center, scale, SIZE, beta=beta)

    expected = naive_log_prior(center, scale, SIZE, beta)
    torch.testing.assert_close(result, expected, atol=1e-12, rtol=1e-12)


def test_bandwidth_is_eight_unless_said_otherwise():
    center = torch.zeros(1, 1, 1, 2)
    scale = torch.ones(1, 1, 1, 2)

    result = gaussian_log_prior(center, scale, (1, 5))

    assert result.flatten().tolist() == [0.0, -1 / 8, -4 / 8, -9 / 8, -2.0]


def test_largest_at_the_centre_cell_in_row_major_order():
    center = torch.tensor([4.0, 1.0]).view(1, 1, 1, 2)

    result = gaussian_log_prior(center, torch.ones(1, 1, 1, 2), SIZE)

    assert result.argmax().item() == 1 * SIZE[1] + 4
    assert result.max().item() == 0


def test_one_head_broadcasts_over_the_logits_of_all_heads():
    prior = gaussian_log_prior(torch.rand(2, 3, 1, 2), torch.rand(2, 3, 1, 2), SIZE)

    assert prior.shape == (2, 1, 3, 15)
    assert (torch.zeros(2, 8, 3, 15) + prior).shape == (2, 8, 3, 15)


def test_gradients():
    center = torch.rand(1, 2, 2, 2, dtype=torch.float64, requires_grad=True)
    scale = torch.randn(1, 2, 2, 2, dtype=torch.float64, requires_grad=True)

    assert torch.autograd.gradcheck(lambda c, s: gaussian_log_prior(c, s, SIZE), (center, scale))


def test_scale_zero_is_the_uniform_prior():
    center = torch.rand(1, 2, 2, 2, requires_grad=True)
    scale = torch.zeros(1, 2, 2, 2, requires_grad=True)

    result = gaussian_log_prior(center, scale, SIZE)
    result.sum().backward()

    assert (result == 0).all()
    assert center.grad.isfinite().all()
    assert scale.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_input_is_computed_in_float32(dtype):
    center = torch.full((1, 1, 1, 2), 0.5, dtype=dtype)
    scale = torch.ones(1, 1, 1, 2, dtype=dtype)

    # Its squared distances overflow float16 and its cells are no bfloat16 numbers.
    result = gaussian_log_prior(center, scale, (1, 1000))

    assert result.dtype == torch.float32
    expected = gaussian_log_prior(center.double(), scale.double(), (1, 1000))
    torch.testing.assert_close(result.double(), expected, rtol=1e-6, atol=1e-6)
