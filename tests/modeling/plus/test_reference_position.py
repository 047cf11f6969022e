import math

import pytest
import torch

from smca.layers import sine_position_encoding
from smca.modeling.plus import ReferencePosition


@pytest.mark.parametrize("dims", [2, 4])
def test_encoding_equals_loops(dims):
    torch.manual_seed(0)
    part = ReferencePosition(embed_dim=8, temperature=20.0, num_coordinates=dims)
    coordinates = torch.rand(2, 3, dims, dtype=torch.float64)
    found = part.encode(coordinates)
    assert found.shape == (2, 3, dims * 4)
    order = [1, 0, 2, 3][:dims]  # y, x, w, h
    for b in range(2):
        for q in range(3):
            expected = []
            for axis in order:
                angle = 2 * math.pi * coordinates[b, q, axis].item()
                for k in range(2):
                    wave = angle / 20.0 ** (2 * k / 4)
                    expected += [math.sin(wave), math.cos(wave)]
            torch.testing.assert_close(found[b, q], torch.tensor(expected, dtype=torch.float64))


def test_a_point_is_encoded_as_its_cell_is():
    """With the image's temperature, in the same channels: cell (3, 5) of 8 x 10 ends at 0.4 and 0.75."""
    part = ReferencePosition(embed_dim=16, temperature=10000.0, num_coordinates=2)
    image = sine_position_encoding(torch.zeros(1, 8, 10, dtype=torch.bool), 16)
    found = part.encode(torch.tensor([[[4 / 10, 6 / 8]]]))
    torch.testing.assert_close(found[0, 0], image[0, :, 5, 3], atol=1e-5, rtol=0)


def test_looks_at_the_reference_only():
    part = ReferencePosition(embed_dim=8)
    reference = torch.randn(2, 3, 4)
    position = part(0, torch.randn(2, 3, 8), reference)
    assert position.shape == (2, 3, 8)
    assert torch.equal(position, part(5, torch.zeros(2, 3, 8), reference))
    torch.testing.assert_close(position, part.mlp(part.encode(reference.sigmoid())))


@pytest.mark.parametrize(
    ("options", "words"),
    [({"embed_dim": 6}, "embed_dim"), ({"embed_dim": 8, "temperature": 0}, "temperature")],
)
def test_bad_settings_are_refused(options, words):
    with pytest.raises(ValueError, match=f"query_position.{words}"):
        ReferencePosition(**options)
