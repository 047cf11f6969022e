import contextlib
import itertools

import pytest
import torch
from torch import nn

from helpers.builders import small_model, training_input
from smca.engine import MixedPrecision
from smca.modeling.modulation import SpatialModulation

# Not the two stages of Deformable DETR: which proposals are the best may change with the last bit.
NAMES = ["smca_single_scale", "smca", "detr", "deformable_detr", "deformable_detr_refine"]
DTYPES = ["bfloat16", "float16"]


def batch():
    return [training_input(64, 96, 3, seed=0), training_input(96, 70, 1, seed=1)]


def autocast(dtype):
    return MixedPrecision(device_type="cpu", dtype=dtype).autocast()


def model_of(name):
    return small_model(name, norm="FrozenBN")


@contextlib.contextmanager
def watched(model, kind):
    """Inputs and outputs of every module of a kind."""
    calls = []
    handles = [
        module.register_forward_hook(lambda m, inputs, output: calls.append((inputs, output)))
        for module in model.modules()
        if isinstance(module, kind)
    ]
    yield calls
    for handle in handles:
        handle.remove()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_losses_are_float32_and_close(name, dtype):
    model = model_of(name).train()
    expected = model(batch())
    with autocast(dtype):
        losses = model(batch())
    assert losses.keys() == expected.keys()
    for key, loss in losses.items():
        assert loss.dtype == torch.float32
        assert loss.item() == pytest.approx(expected[key].item(), rel=0.1, abs=0.05)
    sum(losses.values()).backward()
    for key, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad.dtype == torch.float32, key
            assert parameter.grad.isfinite().all(), key


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES[:2])
def test_the_prior_is_float32(name, dtype):
    model = model_of(name).train()
    with watched(model, SpatialModulation) as calls, autocast(dtype):
        model(batch())
    assert len(calls) == 2
    for inputs, prior in calls:
        assert inputs[1].dtype == torch.float32
        assert prior.center_logits.dtype == torch.float32
        for tensor in itertools.chain(prior.centers, prior.scales):
            assert tensor.dtype == torch.float32
        assert prior.level_weights is None or prior.level_weights.dtype == torch.float32
        assert prior.log_prior(0, (3, 4)).dense().dtype == torch.float32


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_network_computes_in_half_precision(dtype):
    model = model_of("smca").train()
    kinds = []
    for part in (model.backbone.stem.conv1, model.encoder.blocks[0].attention[0].out_proj,
                 model.decoder.layers[0].co_attention.out_proj):  # fmt: skip
        part.register_forward_hook(lambda module, inputs, output: kinds.append(output.dtype))
    with autocast(dtype):
        model(batch())
    assert len(kinds) >= 3
    assert set(kinds) == {getattr(torch, dtype)}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mode", ["train", "eval", "raw"])
def test_the_heads_compute_in_float32(dtype, mode):
    model = model_of("smca").train(mode == "train")
    with watched(model.heads, nn.Linear) as calls, torch.no_grad(), autocast(dtype):
        (model.raw_outputs if mode == "raw" else model)(batch())
    assert len(calls) == 4
    assert {output.dtype for _, output in calls} == {torch.float32}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_boxes_and_scores_are_float32_and_close(name, dtype):
    model = model_of(name).eval()
    with torch.no_grad():
        expected = model.raw_outputs(batch())
        with autocast(dtype):
            outputs = model.raw_outputs(batch())
            (first, _) = model(batch())
    for tensor in outputs.values():
        assert tensor.dtype == torch.float32
        assert tensor.isfinite().all()
    assert (outputs["pred_boxes"] - expected["pred_boxes"]).abs().max() < 0.05
    assert first["instances"].pred_boxes.tensor.dtype == torch.float32
    assert first["instances"].scores.dtype == torch.float32


@pytest.mark.parametrize("name", NAMES)
def test_float64_stays_float64(name):
    model = model_of(name).double().eval()
    with torch.no_grad():
        outputs = model.raw_outputs(batch())
    assert {tensor.dtype for tensor in outputs.values()} == {torch.float64}


def test_without_a_dtype_nothing_is_cast():
    precision = MixedPrecision(device_type="cpu", dtype=None)
    with precision.autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
    assert precision.state_dict() == {}


def step(precision, parameter, gradient):
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    optimizer.zero_grad()
    precision.backward((parameter * gradient).sum())
    precision.unscale(optimizer)
    found = parameter.grad.item()
    if torch.isfinite(parameter.grad).all():
        precision.step(optimizer)
    else:
        precision.leave_out()
    return found


@pytest.mark.parametrize("dtype", [None, "bfloat16", "float16"])
def test_gradients_are_unscaled_before_they_are_looked_at(dtype):
    parameter = nn.Parameter(torch.zeros(1))
    precision = MixedPrecision(device_type="cpu", dtype=dtype)
    assert step(precision, parameter, 3.0) == pytest.approx(3.0)
    assert parameter.item() == pytest.approx(-3.0)


def test_a_gradient_that_overflows_halves_the_scale():
    parameter = nn.Parameter(torch.zeros(1))
    precision = MixedPrecision(device_type="cpu", dtype="float16")
    step(precision, parameter, 1.0)
    before = precision.state_dict()["scale"]
    step(precision, parameter, float("inf"))
    assert precision.state_dict()["scale"] == before / 2
    assert parameter.item() == pytest.approx(-1.0)
    # Leaving out a step whose loss was bad comes before any gradient, and takes nothing.
    precision.leave_out()
    assert precision.state_dict()["scale"] == before / 2
    assert step(precision, parameter, 2.0) == pytest.approx(2.0)


def test_its_state_loads_safely_and_goes_on(tmp_path):
    parameter = nn.Parameter(torch.zeros(1))
    precision = MixedPrecision(device_type="cpu", dtype="float16")
    for gradient in (1.0, float("inf"), 1.0, 1.0):
        step(precision, parameter, gradient)
    torch.save(precision.state_dict(), tmp_path / "state.pth")
    other = MixedPrecision(device_type="cpu", dtype="float16")
    other.load_state_dict(torch.load(tmp_path / "state.pth", weights_only=True))
    assert other.state_dict() == precision.state_dict()
    # From float32 or bfloat16 there is nothing to take up.
    fresh = MixedPrecision(device_type="cpu", dtype="float16")
    before = fresh.state_dict()
    fresh.load_state_dict({})
    assert fresh.state_dict() == before
    MixedPrecision(device_type="cpu", dtype=None).load_state_dict(precision.state_dict())
