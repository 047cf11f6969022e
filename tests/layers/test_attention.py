import numpy as np
import pytest
import torch
from torch import nn

from helpers.builders import draw_parameters
from helpers.oracles import affine, attend, params_of, project, split_heads
from smca.layers import CoAttention, MultiheadAttention

EMBED_DIM, HEADS = 16, 4


def built(cls=MultiheadAttention, **options):
    return draw_parameters(cls(EMBED_DIM, HEADS, **options)).double()


def drawn(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def torch_attention(module: MultiheadAttention) -> nn.MultiheadAttention:
    theirs = nn.MultiheadAttention(EMBED_DIM, HEADS, batch_first=True, dtype=torch.float64)
    theirs.load_state_dict(module.state_dict())
    return theirs


@pytest.mark.parametrize("with_bias", [False, True])
def test_equals_loops(with_bias):
    module = built()
    query, key, value = drawn(2, 3, EMBED_DIM), drawn(2, 5, EMBED_DIM), drawn(2, 5, EMBED_DIM)
    bias = drawn(2, HEADS, 3, 5) if with_bias else None

    result = module(query, key, value, bias)

    params = {f"a.{name}": value for name, value in params_of(module).items()}
    for b in range(2):
        k = [split_heads(project(params, "a", 1, x), HEADS) for x in key[b].numpy()]
        v = [split_heads(project(params, "a", 2, x), HEADS) for x in value[b].numpy()]
        for i, x in enumerate(query[b].numpy()):
            q = split_heads(project(params, "a", 0, x), HEADS)
            heads = [
                attend(
                    q[h],
                    [x[h] for x in k],
                    [x[h] for x in v],
                    bias[b, h, i].tolist() if with_bias else None,
                )
                for h in range(HEADS)
            ]
            expected = affine(params, "a.out_proj", np.concatenate(heads))
            np.testing.assert_allclose(result[b, i].detach().numpy(), expected, atol=1e-12)


def test_equals_torch_with_the_same_packed_weights():
    module = built()
    query, key, value = drawn(2, 3, EMBED_DIM), drawn(2, 5, EMBED_DIM), drawn(2, 5, EMBED_DIM)

    expected, _ = torch_attention(module)(query, key, value)

    torch.testing.assert_close(module(query, key, value), expected, atol=1e-12, rtol=0)


def test_bool_mask_is_true_where_a_key_may_be_attended_to():
    module = built()
    query, key = drawn(2, 3, EMBED_DIM), drawn(2, 5, EMBED_DIM)
    padded = torch.tensor([[False] * 5, [False, False, True, False, True]])

    result = module(query, key, key, ~padded[:, None, None])

    expected, _ = torch_attention(module)(query, key, key, key_padding_mask=padded)
    torch.testing.assert_close(result, expected, atol=1e-12, rtol=0)


def test_float_bias_is_added_to_the_logits():
    module = built()
    query, key = drawn(2, 3, EMBED_DIM), drawn(2, 5, EMBED_DIM)
    bias = drawn(2, HEADS, 3, 5)

    result = module(query, key, key, bias)

    expected, _ = torch_attention(module)(query, key, key, attn_mask=bias.flatten(0, 1))
    torch.testing.assert_close(result, expected, atol=1e-12, rtol=0)


def test_dropout_acts_in_training_only():
    module = built(dropout=0.5)
    x = drawn(1, 6, EMBED_DIM)

    assert not torch.equal(module(x, x, x), module(x, x, x))
    module.eval()
    assert torch.equal(module(x, x, x), module(x, x, x))


@pytest.mark.parametrize("cls", [MultiheadAttention, CoAttention])
def test_heads_that_do_not_divide_the_width_are_an_error(cls):
    with pytest.raises(ValueError, match=r"embed_dim \(16\).*num_heads \(3\)"):
        cls(16, 3)


def test_co_attention_over_one_level_is_multihead_attention():
    module = built(CoAttention)
    plain = MultiheadAttention(EMBED_DIM, HEADS).double()
    plain.load_state_dict(module.state_dict())
    query, key, value = drawn(2, 3, EMBED_DIM), drawn(2, 5, EMBED_DIM), drawn(2, 5, EMBED_DIM)
    bias = drawn(2, HEADS, 3, 5)

    result = module(query, [key], [value], [bias])

    torch.testing.assert_close(result, plain(query, key, value, bias), atol=1e-12, rtol=0)
    one = torch.ones(2, 3, 1, dtype=torch.float64)
    assert torch.equal(module(query, [key], [value], [bias], one), result)


@pytest.mark.parametrize("share_key_value", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
def test_levels_have_a_softmax_each_and_are_summed_by_weight(share_key_value, weighted):
    module = built(CoAttention, num_levels=3, share_key_value=share_key_value)
    lengths = (6, 4, 1)
    query = drawn(2, 3, EMBED_DIM)
    keys = [drawn(2, n, EMBED_DIM) for n in lengths]
    values = [drawn(2, n, EMBED_DIM) for n in lengths]
    biases = [drawn(2, HEADS, 3, 6), None, drawn(2, 1, 3, 1)]
    weights = drawn(2, 3, 3).softmax(-1) if weighted else None

    result = module(query, keys, values, biases, weights)

    # One torch attention per level, summed before the output projection.
    total = 0
    for s in range(3):
        level = torch_attention_of_level(module, s)
        bias = None if biases[s] is None else biases[s].expand(-1, HEADS, -1, -1).flatten(0, 1)
        heads, _ = level(query, keys[s], values[s], attn_mask=bias)
        total = total + heads * (weights[..., s : s + 1] if weighted else 1 / 3)
    torch.testing.assert_close(result, module.out_proj(total), atol=1e-12, rtol=0)


def torch_attention_of_level(module: CoAttention, level: int) -> nn.MultiheadAttention:
    theirs = nn.MultiheadAttention(EMBED_DIM, HEADS, batch_first=True, dtype=torch.float64)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(module.in_proj_weight)
        theirs.in_proj_bias.copy_(module.in_proj_bias)
        if level and len(module.level_key_value):
            own = module.level_key_value[level - 1]
            theirs.in_proj_weight[EMBED_DIM:] = own.weight
            theirs.in_proj_bias[EMBED_DIM:] = own.bias
        theirs.out_proj.weight.copy_(torch.eye(EMBED_DIM))
        theirs.out_proj.bias.zero_()
    return theirs


def test_own_key_value_projections_are_one_per_level():
    shared = CoAttention(EMBED_DIM, HEADS, num_levels=3)
    own = CoAttention(EMBED_DIM, HEADS, num_levels=3, share_key_value=False)

    def count(module):
        return sum(p.numel() for p in module.parameters())

    assert count(shared) == 4 * (EMBED_DIM**2 + EMBED_DIM)
    assert count(own) == count(shared) + 2 * 2 * (EMBED_DIM**2 + EMBED_DIM)
