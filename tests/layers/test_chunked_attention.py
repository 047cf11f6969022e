import pytest
import torch
from torch import _dynamo as dynamo
from torch.nn import functional as F

from smca.layers import MultiheadAttention, SeparableBias, attention, separable_log_prior
from smca.layers import chunked_attention as chunked


def drawn(*shape):
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


@pytest.fixture
def inputs(monkeypatch):
    # Blocks of 4 rows, the last one of 3.
    monkeypatch.setattr(chunked, "_BLOCK_LOGITS", 4 * 13)
    torch.manual_seed(0)
    return drawn(2, 3, 11, 6), drawn(2, 3, 13, 6), drawn(2, 3, 13, 5)


def weights_kept(query, key, dropout):
    """Dropout's 0 and 1 / (1 - p) for the next call, read from an attention over an identity."""
    state = torch.get_rng_state()
    eye = torch.eye(key.shape[2], dtype=query.dtype).expand(*key.shape[:2], -1, -1)
    kept = chunked.chunked_attention(query, key, eye, dropout=dropout)
    torch.set_rng_state(state)
    return (kept / (query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5).softmax(-1)).detach()


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_equals_the_formula_in_values_and_gradients(inputs, dropout):
    query, key, value = inputs
    factor = weights_kept(query, key, dropout)

    result = chunked.chunked_attention(query, key, value, dropout=dropout)

    logits = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
    expected = (logits.softmax(-1) * factor) @ value
    torch.testing.assert_close(result, expected, atol=1e-12, rtol=0)
    slope = torch.randn_like(result)
    found = torch.autograd.grad(result, inputs, slope)
    for mine, other in zip(found, torch.autograd.grad(expected, inputs, slope), strict=True):
        torch.testing.assert_close(mine, other, atol=1e-12, rtol=0)


def test_dropout_has_its_probability_in_every_head_and_keeps_the_mean():
    torch.manual_seed(0)
    query, key = drawn(1, 2, 300, 4), drawn(1, 2, 400, 4)

    factor = weights_kept(query, key, 0.1)

    shares = (factor == 0).double().mean((0, 2, 3))
    torch.testing.assert_close(shares, torch.full_like(shares, 0.1), atol=0.004, rtol=0)
    torch.testing.assert_close(factor.max().item(), 1 / 0.9, atol=1e-4, rtol=0)
    assert not torch.equal(factor[0, 0] == 0, factor[0, 1] == 0)


def test_padded_keys_get_neither_weight_nor_gradient(inputs):
    query, key, value = inputs
    allowed = torch.ones(2, 1, 1, 13, dtype=torch.bool)
    allowed[1, ..., 9:] = False

    result = chunked.chunked_attention(query, key, value, bias=allowed)

    expected = F.scaled_dot_product_attention(query, key, value, attn_mask=allowed)
    torch.testing.assert_close(result, expected, atol=1e-12, rtol=0)
    grads = torch.autograd.grad(result.square().sum(), inputs)
    assert all(grad.isfinite().all() for grad in grads)
    assert not grads[1][1, :, 9:].any()
    assert not grads[2][1, :, 9:].any()


def test_same_seed_same_dropout_and_resumed_state_goes_on(inputs):
    torch.manual_seed(3)
    first = chunked.chunked_attention(*inputs, dropout=0.5)
    second = chunked.chunked_attention(*inputs, dropout=0.5)
    torch.manual_seed(3)
    assert torch.equal(chunked.chunked_attention(*inputs, dropout=0.5), first)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("masked", [False, True])
def test_a_layer_in_training_takes_it_where_there_is_much_to_attend_to(monkeypatch, masked):
    calls = []
    real = chunked.chunked_attention
    monkeypatch.setattr(
        attention, "chunked_attention", lambda *a, **k: calls.append(k) or real(*a, **k)
    )
    layer = MultiheadAttention(16, 4, dropout=1e-9)
    x = torch.randn(2, 256, 16)
    mask = torch.ones(2, 1, 1, 256, dtype=torch.bool)
    mask[1, ..., 200:] = False

    result = layer(x, x, x, mask if masked else None)

    assert len(calls) == 1
    torch.testing.assert_close(result, layer.eval()(x, x, x, mask if masked else None))
    layer.train()(x[:, :32], x[:, :32], x[:, :32])
    assert len(calls) == 1


def test_half_precision_is_computed_in_float32():
    torch.manual_seed(0)
    parts = [torch.randn(1, 2, 300, 8) for _ in range(3)]
    half = [x.bfloat16() for x in parts]
    with torch.autocast("cpu", torch.bfloat16):
        result = chunked.chunked_attention(*half)
    expected = chunked.chunked_attention(*(x.float() for x in half))
    assert result.dtype is torch.bfloat16
    assert torch.equal(result, expected.bfloat16())


def test_gradients_under_autocast_are_not_rounded():
    parts = [torch.randn(1, 2, 9, 4, requires_grad=True) for _ in range(3)]
    expected = torch.autograd.grad(chunked.chunked_attention(*parts).square().sum(), parts)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = torch.autograd.grad(chunked.chunked_attention(*parts).square().sum(), parts)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("heads", [3, 1])
@pytest.mark.parametrize("padded", [False, True])
def test_a_bias_in_two_terms_equals_the_dense_one_in_values_and_gradients(
    monkeypatch, heads, padded
):
    monkeypatch.setattr(chunked, "_BLOCK_LOGITS", 4 * 15)
    torch.manual_seed(0)
    query, key, value = drawn(2, 3, 11, 6), drawn(2, 3, 15, 6), drawn(2, 3, 15, 5)
    allowed = torch.ones(2, 1, 1, 15, dtype=torch.bool)
    allowed[1, ..., 9:] = not padded
    bias = SeparableBias(drawn(2, heads, 11, 3), drawn(2, heads, 11, 5), allowed)
    inputs = (query, key, value, *bias.terms)

    result = chunked.chunked_attention(query, key, value, bias=bias)

    expected = F.scaled_dot_product_attention(query, key, value, attn_mask=bias.dense())
    torch.testing.assert_close(result, expected, atol=1e-12, rtol=0)
    slope = torch.randn_like(result)
    found = torch.autograd.grad(result, inputs, slope)
    for mine, other in zip(found, torch.autograd.grad(expected, inputs, slope), strict=True):
        torch.testing.assert_close(mine, other, atol=1e-12, rtol=0)


def test_a_bias_in_two_terms_with_dropout(monkeypatch):
    """Seen through values that are an identity: what is kept of the biased softmax, and its gradient."""
    monkeypatch.setattr(chunked, "_BLOCK_LOGITS", 4 * 15)
    torch.manual_seed(0)
    query, key = drawn(2, 3, 11, 6), drawn(2, 3, 15, 6)
    value = torch.eye(15, dtype=torch.float64).expand(2, 3, -1, -1)
    bias = SeparableBias(drawn(2, 3, 11, 3), drawn(2, 3, 11, 5))
    inputs = (query, key, *bias.terms)

    kept = chunked.chunked_attention(query, key, value, bias=bias, dropout=0.3)

    full = F.scaled_dot_product_attention(query, key, value, attn_mask=bias.dense())
    factor = (kept / full).detach()
    assert 0.2 < (factor == 0).double().mean() < 0.4
    dropped, others = factor[factor == 0], factor[factor != 0]
    torch.testing.assert_close(others, torch.full_like(others, 1 / 0.7), atol=1e-4, rtol=0)
    assert len(dropped) + len(others) == factor.numel()
    slope = torch.randn_like(kept)
    found = torch.autograd.grad(kept, inputs, slope)
    for mine, other in zip(found, torch.autograd.grad(full * factor, inputs, slope), strict=True):
        torch.testing.assert_close(mine, other, atol=1e-12, rtol=0)


def test_a_prior_far_off_the_map_neither_overflows_nor_underflows():
    bias = separable_log_prior(
        torch.full((1, 5, 2, 2), 1000.0, requires_grad=True), torch.full((1, 5, 2, 2), 2.0), (3, 4)
    )
    torch.manual_seed(0)
    query, key, value = (torch.randn(1, 2, n, 4, requires_grad=True) for n in (5, 12, 12))
    result = chunked.chunked_attention(query, key, value, bias=bias)
    nearest = value[:, :, -1:].expand_as(result)
    torch.testing.assert_close(result, nearest)
    grads = torch.autograd.grad(result.sum(), [query, key, value, *bias.terms])
    assert all(grad.isfinite().all() for grad in grads)


@pytest.mark.parametrize(
    ("training", "gradients", "dropout", "chunks"),
    [(True, True, 0.0, 1), (True, True, 1e-9, 1), (False, False, 0.1, 0), (True, True, 1.0, 0)],
)
def test_a_prior_takes_blocks_where_it_has_a_gradient(
    monkeypatch, training, gradients, dropout, chunks
):
    calls = []
    real = chunked.chunked_attention
    monkeypatch.setattr(
        attention, "chunked_attention", lambda *a, **k: calls.append(k) or real(*a, **k)
    )
    torch.manual_seed(0)
    layer = MultiheadAttention(16, 4, dropout=dropout).train(training)
    terms = [torch.randn(2, 4, 256, n, requires_grad=gradients) for n in (8, 32)]
    allowed = torch.ones(2, 1, 1, 256, dtype=torch.bool)
    allowed[1, ..., 200:] = False
    x = torch.randn(2, 256, 16)
    with torch.set_grad_enabled(gradients):
        result = layer(x, x, x, SeparableBias(*terms, allowed))
    assert len(calls) == chunks
    if dropout < 1:
        expected = layer.eval()(x, x, x, SeparableBias(*terms, allowed).dense())
        torch.testing.assert_close(result, expected)


def test_its_blocks_are_no_part_of_a_compiled_graph(inputs):
    graphs = []

    def backend(graph, _):
        graphs.append(graph)
        return graph.forward

    def doubled(dropout):
        return 2 * chunked.chunked_attention(*inputs, dropout=dropout)

    expected = doubled(0.0)
    dynamo.reset()
    try:
        compiled = torch.compile(doubled, backend=backend)
        torch.testing.assert_close(compiled(0.0), expected)
        compiled(0.5)
    finally:
        dynamo.reset()
    assert all(len(graph.graph.nodes) < 5 for graph in graphs)
