"""Places on padded maps, by hand."""

import pytest
import torch

from helpers.builders import feature_levels
from smca.modeling.deformable import ReferenceSampling
from smca.modeling.deformable.level_tokens import (
    cell_centers,
    join_levels,
    split_levels,
    valid_ratios,
)

# Height and width; padded to 96 x 128, which is 3 x 4 and 2 x 2 cells.
SIZES = [(96, 64), (40, 128)]
STRIDES = (32, 64)


def levels():
    return feature_levels(SIZES, STRIDES, 8)


def test_valid_ratios_are_columns_then_rows():
    ratios = valid_ratios(levels())

    expected = [[[2 / 4, 3 / 3], [1 / 2, 2 / 2]], [[4 / 4, 2 / 3], [2 / 2, 1 / 2]]]
    torch.testing.assert_close(ratios, torch.tensor(expected, dtype=torch.float64))


def test_without_padding_all_is_valid():
    found = valid_ratios(feature_levels([(96, 64)] * 2, STRIDES, 8))

    assert torch.equal(found, torch.ones(1, 2, 2, dtype=torch.float64))


def test_centers_of_cells_are_of_the_valid_area():
    centers = cell_centers(levels()[0])

    first = [((x + 0.5) / 2, (y + 0.5) / 3) for y in range(3) for x in range(4)]
    second = [((x + 0.5) / 4, (y + 0.5) / 2) for y in range(3) for x in range(4)]
    torch.testing.assert_close(centers, torch.tensor([first, second], dtype=torch.float64))


def test_levels_are_joined_and_split_again():
    given = levels()
    joined = join_levels(given)

    assert joined.tokens.shape == (2, 16, 8)
    assert joined.padding_mask.shape == (2, 16)
    assert joined.sizes == [(3, 4), (2, 2)]
    for level, found in zip(given, split_levels(2 * joined.tokens, given), strict=True):
        assert torch.equal(found.tokens, 2 * level.tokens)
        assert torch.equal(found.position, level.position)
        assert found.size == level.size


@pytest.mark.parametrize("dims", [2, 4])
def test_references_are_scaled_to_each_padded_map(dims):
    logits = torch.randn(2, 5, dims, dtype=torch.float64)

    points = ReferenceSampling()(0, None, None, levels(), None, logits).points

    ratios = [[(0.5, 1.0), (0.5, 1.0)], [(1.0, 2 / 3), (1.0, 0.5)]]
    for b in range(2):
        for s in range(2):
            scale = torch.tensor(ratios[b][s] * (dims // 2), dtype=torch.float64)
            torch.testing.assert_close(points[b, :, s], logits[b].sigmoid() * scale)


def test_queries_without_references_are_refused():
    with pytest.raises(ValueError, match=r"decoder\.queries gives no references"):
        ReferenceSampling()(0, None, None, levels(), None, None)
