import numpy as np
import pytest
import torch

from helpers.builders import draw_parameters, feature_levels
from helpers.oracles import encoder_block, image_levels, params_of
from smca.modeling import Encoder
from smca.modeling.encoder import EncoderBlock, parse_blocks

EMBED_DIM, HEADS = 8, 2
STRIDES = (16, 32, 64)
# Of two sizes, neither a multiple of the strides.
IMAGES = [(70, 112), (96, 50)]


def built_block(kind, *, num_levels=3, **options):
    block = EncoderBlock(
        kind=kind,
        embed_dim=EMBED_DIM,
        num_heads=HEADS,
        ffn_dim=12,
        dropout=0.0,
        num_levels=num_levels,
        **options,
    )
    return draw_parameters(block).double()


@pytest.mark.parametrize("kind", ["intra", "multi"])
@pytest.mark.parametrize("share_attention", [True, False])
@pytest.mark.parametrize("share_ffn", [True, False])
def test_block_equals_loops(kind, share_attention, share_ffn):
    block = built_block(kind, share_attention=share_attention, share_ffn=share_ffn)
    levels = feature_levels(IMAGES, STRIDES, EMBED_DIM)

    encoded = block(levels)

    for b in range(len(IMAGES)):
        one_image = image_levels(levels, b)
        expected = encoder_block(params_of(block), one_image, kind=kind, num_heads=HEADS)
        for level, rows, given in zip(encoded, expected, one_image, strict=True):
            valid = ~given.padded
            result = level.tokens[b].detach().numpy()
            np.testing.assert_allclose(result[valid], rows[valid], rtol=0, atol=1e-9)


@pytest.mark.parametrize("changed", [0, 1, 2])
def test_intra_block_leaves_other_scales_untouched(changed):
    before, after = outputs_with_one_scale_changed("intra", changed)

    for s in range(3):
        assert torch.equal(before[s], after[s]) == (s != changed)


@pytest.mark.parametrize("changed", [0, 1, 2])
def test_multi_block_mixes_all_scales(changed):
    before, after = outputs_with_one_scale_changed("multi", changed)

    for s in range(3):
        assert (before[s] - after[s]).abs().max() > 1e-4


def outputs_with_one_scale_changed(kind, changed):
    block = built_block(kind)
    levels = feature_levels([(96, 112)], STRIDES, EMBED_DIM)
    other = list(levels)
    other[changed] = levels[changed].with_tokens(levels[changed].tokens + 1.5)
    other[changed].tokens[:, 0] -= 3
    return [x.tokens for x in block(levels)], [x.tokens for x in block(other)]


def test_with_one_level_the_two_kinds_are_the_same():
    levels = feature_levels(IMAGES, (32,), EMBED_DIM)
    intra, multi = (built_block(kind, num_levels=1) for kind in ("intra", "multi"))

    assert torch.equal(intra(levels)[0].tokens, multi(levels)[0].tokens)


def test_own_weights_are_one_set_per_scale():
    def count(**options):
        return sum(p.numel() for p in built_block("multi", **options).parameters())

    attention = 4 * (EMBED_DIM**2 + EMBED_DIM)
    ffn = 2 * EMBED_DIM * 12 + EMBED_DIM + 12
    norms = 4 * EMBED_DIM
    assert count() == attention + ffn + norms
    assert count(share_attention=False) == 3 * attention + ffn + norms
    assert count(share_ffn=False) == attention + 3 * ffn + norms
    assert count(share_attention=False, share_ffn=False) == 3 * (attention + ffn) + norms


def test_encoder_applies_its_blocks_in_order():
    encoder = Encoder(
        blocks=["intra", "multi"], embed_dim=EMBED_DIM, num_heads=HEADS, ffn_dim=12, num_levels=3
    )
    draw_parameters(encoder).double().eval()
    levels = feature_levels(IMAGES, STRIDES, EMBED_DIM)

    encoded = encoder(levels)

    expected = encoder.blocks[1](encoder.blocks[0](levels))
    for level, wanted, given in zip(encoded, expected, levels, strict=True):
        assert torch.equal(level.tokens, wanted.tokens)
        assert torch.equal(level.position, given.position)
        assert (level.size, level.stride) == (given.size, given.stride)


def test_dropout_acts_in_training_only():
    block = built_block("multi")
    block.dropout.p = 0.5
    levels = feature_levels([(64, 64)], STRIDES, EMBED_DIM)

    assert not torch.equal(block(levels)[0].tokens, block(levels)[0].tokens)
    block.eval()
    assert torch.equal(block(levels)[0].tokens, block(levels)[0].tokens)


@pytest.mark.parametrize(
    ("written", "kinds"),
    [
        ("2Intra-Multi-2Intra", ["intra", "intra", "multi", "intra", "intra"]),
        ("3Multi", ["multi"] * 3),
        ("10intra-1multi", ["intra"] * 10 + ["multi"]),
        (["multi", "intra"], ["multi", "intra"]),
    ],
)
def test_notation_of_the_paper(written, kinds):
    assert parse_blocks(written) == kinds
    encoder = Encoder(blocks=written, embed_dim=EMBED_DIM, num_heads=HEADS, ffn_dim=4, num_levels=2)
    assert [block.kind for block in encoder.blocks] == kinds


@pytest.mark.parametrize(
    ("written", "word"),
    [
        ("2Intra-Cross", "Cross"),
        ("Intra2-Multi", "Intra2"),
        ("Intra--Multi", ""),
        ("", ""),
        (["intra", "cross"], "cross"),
    ],
)
def test_unknown_kind_is_an_error_that_shows_the_word(written, word):
    with pytest.raises(ValueError, match=f"unknown word '{word}'"):
        Encoder(blocks=written, embed_dim=EMBED_DIM, num_heads=HEADS)


def test_heads_that_do_not_divide_the_width_are_an_error():
    with pytest.raises(ValueError, match=r"embed_dim \(16\).*num_heads \(3\)"):
        Encoder(blocks="Intra", embed_dim=16, num_heads=3)


@pytest.mark.parametrize("blocks", ["0Intra", "0Intra-0multi", []])
def test_no_blocks(blocks):
    with pytest.raises(ValueError, match=r"^encoder\.blocks .* has no block, at least 1 is needed"):
        parse_blocks(blocks)


@pytest.mark.parametrize("blocks", [5, None, True])
def test_blocks_that_are_no_words(blocks):
    with pytest.raises(ValueError, match=rf"^encoder\.blocks {blocks} must be words, such as"):
        parse_blocks(blocks)


@pytest.mark.parametrize("blocks", ["101Intra", "99Intra-2Multi", "9" * 5000 + "Intra"])
def test_more_blocks_than_any_model_has(blocks):
    with pytest.raises(ValueError, match="has more than 100 blocks"):
        parse_blocks(blocks)


@pytest.mark.parametrize("branch", ["attention", "ffn"])
def test_dropout_acts_on_each_branch(branch):
    """With the other branch silent, all that changes from call to call is this one's dropout."""
    block = built_block("intra").train()
    silent = block.ffn if branch == "attention" else [a.out_proj for a in block.attention]
    for module in silent:
        for parameter in module.parameters():
            torch.nn.init.zeros_(parameter)
    block.dropout.p = 0.5
    for module in (*block.attention, *(ffn.dropout for ffn in block.ffn)):
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        else:
            module.dropout = 0.0
    levels = feature_levels([(64, 64)], STRIDES, EMBED_DIM)
    assert not torch.equal(block(levels)[0].tokens, block(levels)[0].tokens)
