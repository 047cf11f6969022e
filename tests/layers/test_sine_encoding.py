import math

import numpy as np
import pytest
import torch

from smca.layers import sine_position_encoding


def naive_encoding(padded: np.ndarray, embed_dim: int) -> np.ndarray:
    """One image (h, w) -> (C, h, w), cell by cell as DETR's paper and code describe it."""
    h, w = padded.shape
    half = embed_dim // 2
    result = np.zeros((embed_dim, h, w))
    for j in range(h):
        for i in range(w):
            y = sum(not padded[row, i] for row in range(j + 1))
            x = sum(not padded[j, column] for column in range(i + 1))
            y_total = sum(not padded[row, i] for row in range(h))
            x_total = sum(not padded[j, column] for column in range(w))
            for first, count, total in ((0, y, y_total), (half, x, x_total)):
                angle = count / (total + 1e-6) * 2 * math.pi
                for channel in range(half):
                    frequency = 10000 ** (2 * (channel // 2) / half)
                    wave = math.sin if channel % 2 == 0 else math.cos
                    result[first + channel, j, i] = wave(angle / frequency)
    return result


@pytest.mark.parametrize(("size", "embed_dim"), [((5, 7), 16), ((1, 9), 8), ((6, 1), 4)])
def test_equals_cell_by_cell_formula(size, embed_dim):
    mask = torch.zeros(2, *size, dtype=torch.bool)
    mask[1, (size[0] + 1) // 2 :] = True
    mask[1, :, (size[1] + 2) // 2 :] = True

    encoding = sine_position_encoding(mask, embed_dim)

    assert encoding.shape == (2, embed_dim, *size)
    assert encoding.dtype == torch.float32
    for image in range(2):
        expected = naive_encoding(mask[image].numpy(), embed_dim)
        valid = ~mask[image].numpy()
        np.testing.assert_allclose(encoding[image].numpy()[:, valid], expected[:, valid], atol=2e-6)


def test_valid_cells_do_not_depend_on_the_amount_of_padding():
    alone = sine_position_encoding(torch.zeros(1, 3, 4, dtype=torch.bool), 16)
    mask = torch.ones(1, 6, 9, dtype=torch.bool)
    mask[0, :3, :4] = False

    padded = sine_position_encoding(mask, 16)

    torch.testing.assert_close(padded[:, :, :3, :4], alone)


def test_width_that_is_no_multiple_of_four_is_an_error():
    with pytest.raises(ValueError, match=r"multiple of 4.*18"):
        sine_position_encoding(torch.zeros(1, 2, 2, dtype=torch.bool), 18)


def test_shifted_by_half_a_cell_coordinates_are_of_the_middle():
    mask = torch.zeros(1, 3, 4, dtype=torch.bool)
    mask[:, :, 3] = True

    code = sine_position_encoding(mask, 4, shift=-0.5)

    # One wave per axis, y first.
    for row in range(3):
        for column in range(3):
            y, x = (2 * math.pi * (n + 0.5) / 3 for n in (row, column))
            expected = torch.tensor([math.sin(y), math.cos(y), math.sin(x), math.cos(x)])
            torch.testing.assert_close(code[0, :, row, column], expected, atol=1e-5, rtol=0)
