import pytest
import torch
from torch.nn import functional as F

from helpers.builders import draw_parameters
from smca.layers import sine_position_encoding
from smca.modeling import Neck

CHANNELS = {"res3": 6, "res4": 10, "res5": 12}
IN_STRIDES = {"res3": 8, "res4": 16, "res5": 32}
EMBED_DIM = 8


def built(in_features, strides):
    neck = Neck(
        in_features=in_features,
        in_channels=[CHANNELS[name] for name in in_features],
        in_strides=[IN_STRIDES[name] for name in in_features],
        strides=strides,
        embed_dim=EMBED_DIM,
    )
    return draw_parameters(neck)


def features_of(height, width, batch=2):
    return {
        name: torch.randn(batch, CHANNELS[name], -(-height // stride), -(-width // stride))
        for name, stride in IN_STRIDES.items()
    }


def mask_of(sizes):
    height, width = (max(values) for values in zip(*sizes, strict=True))
    mask = torch.ones(len(sizes), height, width, dtype=torch.bool)
    for row, (h, w) in zip(mask, sizes, strict=True):
        row[:h, :w] = False
    return mask


def as_map(level, b):
    return level.tokens[b].T.reshape(EMBED_DIM, *level.size)


def test_given_strides_are_1x1_convolutions_of_their_features():
    neck = built(["res4", "res5"], [16, 32])
    features = features_of(97, 131)

    levels = neck(features, None)

    assert [(level.size, level.stride) for level in levels] == [((7, 9), 16), ((4, 5), 32)]
    for level, name, projection in zip(levels, ["res4", "res5"], neck.projections, strict=True):
        for b in range(2):
            weight = projection.weight[:, :, 0, 0]
            expected = torch.einsum("oc,chw->ohw", weight, features[name][b])
            expected = expected + projection.bias[:, None, None]
            torch.testing.assert_close(as_map(level, b), expected)


def test_coarser_strides_are_3x3_stride_2_convolutions_in_a_chain():
    neck = built(["res5"], [32, 64, 128])
    features = features_of(161, 224)

    levels = neck(features, None)

    assert [level.size for level in levels] == [(6, 7), (3, 4), (2, 2)]
    assert [tuple(p.weight.shape) for p in neck.projections] == [
        (EMBED_DIM, 12, 1, 1),
        (EMBED_DIM, 12, 3, 3),
        (EMBED_DIM, EMBED_DIM, 3, 3),
    ]
    first, second = neck.projections[1:]
    stride_64 = F.conv2d(features["res5"], first.weight, first.bias, stride=2, padding=1)
    stride_128 = F.conv2d(stride_64, second.weight, second.bias, stride=2, padding=1)
    for b in range(2):
        torch.testing.assert_close(as_map(levels[1], b), stride_64[b])
        torch.testing.assert_close(as_map(levels[2], b), stride_128[b])


def test_one_level_has_the_bare_sine_position():
    neck = built(["res5"], [32])

    (level,) = neck(features_of(97, 131), None)

    assert neck.level_embedding is None
    expected = sine_position_encoding(torch.zeros(1, 4, 5, dtype=torch.bool), EMBED_DIM)
    torch.testing.assert_close(level.position, expected.flatten(2).mT.expand(2, -1, -1))


def test_several_levels_add_their_embedding_to_the_position():
    neck = built(["res4", "res5"], [16, 32, 64])
    sizes = [(97, 131), (128, 90)]

    levels = neck(features_of(128, 131), mask_of(sizes))

    assert neck.level_embedding.shape == (3, EMBED_DIM)
    for s, level in enumerate(levels):
        mask = level.padding_mask.view(2, *level.size)
        expected = sine_position_encoding(mask, EMBED_DIM).flatten(2).mT + neck.level_embedding[s]
        torch.testing.assert_close(level.position, expected)


@pytest.mark.parametrize("sizes", [[(97, 131), (64, 150)], [(33, 150), (97, 1)], [(64, 64)] * 2])
def test_masks_take_the_nearest_pixel(sizes):
    mask = mask_of(sizes)
    height, width = mask.shape[1:]

    levels = built(["res4", "res5"], [16, 32, 64])(features_of(height, width), mask)

    for level in levels:
        h, w = level.size
        for b in range(2):
            for j in range(h):
                for i in range(w):
                    pixel = mask[b, j * height // h, i * width // w]
                    assert level.padding_mask[b, j * w + i] == pixel
        assert not level.padding_mask.all(1).any()


def test_no_padding_no_mask():
    assert [x.padding_mask for x in built(["res5"], [32])(features_of(64, 64), None)] == [None]
    assert [x.attention_mask for x in built(["res5"], [32])(features_of(64, 64), None)] == [None]


def test_attention_mask_is_true_where_a_cell_may_be_attended_to():
    (level,) = built(["res5"], [32])(features_of(64, 96), mask_of([(64, 96), (64, 32)]))

    assert level.attention_mask.shape == (2, 1, 1, 6)
    assert level.attention_mask[1].flatten().tolist() == [True, False, False] * 2


def test_padding_does_not_leak_through_the_3x3_windows():
    neck = built(["res5"], [32, 64, 128])
    mask = mask_of([(256, 256), (160, 96)])
    features = features_of(256, 256)
    changed = {name: feature.clone() for name, feature in features.items()}
    changed["res5"][1, :, 5:] = 1e4
    changed["res5"][1, :, :, 3:] = float("nan")

    before, after = neck(features, mask), neck(changed, mask)

    for one, other in zip(before, after, strict=True):
        valid = ~one.padding_mask
        assert torch.equal(one.tokens[valid], other.tokens[valid])


def test_padded_image_has_the_cells_it_has_alone():
    neck = built(["res5"], [32, 64, 128])
    features = features_of(256, 512)

    # At stride 64 it has 1 x 3 cells, so windows of stride 128 reach over its edge.
    batched = neck(features, mask_of([(256, 512), (64, 192)]))
    alone = neck({"res5": features["res5"][1:, :, :2, :6]}, None)

    for padded, single in zip(batched, alone, strict=True):
        valid = ~padded.padding_mask[1]
        torch.testing.assert_close(padded.tokens[1][valid], single.tokens[0])
        torch.testing.assert_close(padded.position[1][valid], single.position[0])


def test_three_features_keep_the_order_of_strides():
    neck = built(["res5", "res3", "res4"], [8, 16, 32])

    assert neck.level_features == ("res3", "res4", "res5")


@pytest.mark.parametrize(
    ("strides", "words"),
    [
        ([8, 32], "stride 8, which the backbone does not give"),
        ([16, 128], "stride 128, which the backbone does not give"),
        ([32, 96], "stride 96"),
        ([32, 16], "ascending"),
        ([32, 32], "ascending"),
        ([], "not empty"),
    ],
)
def test_strides_out_of_reach_are_an_error(strides, words):
    with pytest.raises(ValueError, match=words):
        built(["res4", "res5"], strides)


def normed(**options):
    neck = Neck(
        in_features=["res5"],
        in_channels=[CHANNELS["res5"]],
        in_strides=[32],
        strides=[32, 64],
        embed_dim=EMBED_DIM,
        num_groups=2,
        **options,
    )
    return draw_parameters(neck).double()


def test_group_norms_are_of_each_images_own_cells():
    neck = normed()
    features = {"res5": torch.randn(2, CHANNELS["res5"], 4, 6, dtype=torch.float64)}
    mask = mask_of([(128, 192), (64, 128)])

    together = neck(features, mask)

    alone = neck({"res5": features["res5"][1:, :, :2, :4]}, None)
    for level, expected in zip(together, alone, strict=True):
        h, w = expected.size
        found = as_map(level, 1)[:, :h, :w]
        torch.testing.assert_close(found, as_map(expected, 0), atol=1e-10, rtol=0)


@pytest.mark.parametrize("isolate", [True, False])
@pytest.mark.parametrize("sees", [True, False])
def test_seeing_padding_norms_are_of_all_cells(sees, isolate):
    """Only a neck that was built to sees it, and only if images are not isolated."""
    neck = normed(see_padding=sees)
    features = {"res5": torch.randn(2, CHANNELS["res5"], 4, 6, dtype=torch.float64)}

    padded = neck(features, mask_of([(128, 192), (64, 128)]), isolate=isolate)

    for level, expected in zip(padded, neck(features, None), strict=True):
        assert torch.equal(level.tokens, expected.tokens) == (sees and not isolate)
        assert level.padding_mask.any()


def test_an_embedding_of_a_single_level_and_a_shift():
    options = {"in_features": ["res5"], "in_channels": [12], "in_strides": [32], "strides": [32]}
    neck = Neck(**options, embed_dim=8, level_embedding=True, position_shift=-0.5)
    features = {"res5": torch.randn(1, 12, 3, 4)}

    (level,) = neck(features, None)

    mask = torch.zeros(1, 3, 4, dtype=torch.bool)
    code = sine_position_encoding(mask, 8, shift=-0.5).flatten(2).transpose(1, 2)
    torch.testing.assert_close(level.position, code + neck.level_embedding[0])
    assert Neck(**options, embed_dim=8).level_embedding is None


def test_projections_that_start_xavier_uniform():
    neck = Neck(
        in_features=["res5"],
        in_channels=[512],
        in_strides=[32],
        strides=[32, 64],
        embed_dim=64,
        xavier=True,
    )

    for projection, fans in zip(neck.projections, [512 + 64, 9 * (512 + 64)], strict=True):
        assert not projection.bias.any()
        limit = (6 / fans) ** 0.5
        assert 0.99 * limit < projection.weight.abs().max() <= limit
