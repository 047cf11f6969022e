import contextlib
import copy

import pytest
import torch
from detectron2.config import instantiate

from helpers.builders import draw_parameters, small_config, training_input
from smca.modeling.decoder import DecoderLayer
from smca.modeling.deformable.encoder import DeformableEncoderLayer
from smca.modeling.encoder import EncoderBlock

NAMES = ["smca_single_scale", "smca", "detr", "deformable_detr", "deformable_detr_two_stage"]


def models(name, *, dropout=0.0):
    """The same weights with activations kept and computed again."""
    config = small_config(name, norm="FrozenBN")
    config.encoder.dropout = config.decoder.dropout = dropout
    if "blocks" in config.encoder:
        config.encoder.blocks = "Intra-Multi-Intra"
    else:
        config.encoder.num_layers = 3
    kept = instantiate(config)
    for part in (kept.neck, kept.encoder, kept.decoder, kept.heads):
        draw_parameters(part)
    again = copy.deepcopy(kept)
    again.encoder.activation_checkpointing = True
    again.decoder.activation_checkpointing = True
    return kept, again


def batch():
    """Of two sizes, so that there is a padding mask."""
    return [training_input(64, 96, 3, seed=0), training_input(96, 70, 1, seed=1)]


def losses_and_gradients(model, context):
    torch.manual_seed(3)
    with context:
        losses = model.train()(batch())
    sum(losses.values()).backward()
    gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    return {name: loss.detach() for name, loss in losses.items()}, gradients, torch.rand(3)


@contextlib.contextmanager
def counted(model):
    """Forward passes of encoder blocks and decoder layers."""
    counts = {"encoder": 0, "decoder": 0}
    kinds = {EncoderBlock: "encoder", DeformableEncoderLayer: "encoder", DecoderLayer: "decoder"}

    def count(module, _inputs):
        counts[kinds[type(module)]] += 1

    handles = [
        module.register_forward_pre_hook(count)
        for module in model.modules()
        if type(module) in kinds
    ]
    yield counts
    for handle in handles:
        handle.remove()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("dtype", [None, torch.bfloat16, torch.float16])
def test_losses_and_gradients_are_the_same_bit_for_bit(name, dropout, dtype):
    results = []
    for model in models(name, dropout=dropout):
        context = contextlib.nullcontext() if dtype is None else torch.autocast("cpu", dtype)
        results.append(losses_and_gradients(model, context))
    for kept, again in zip(*results, strict=True):
        if isinstance(kept, torch.Tensor):
            # The generator is where it would have been.
            assert torch.equal(kept, again)
            continue
        assert kept.keys() == again.keys()
        assert [key for key in kept if not torch.equal(kept[key], again[key])] == []
    assert len(results[0][1]) > 50


@pytest.mark.parametrize("name", NAMES)
def test_blocks_run_again_in_the_backward_pass_only(name):
    for model, times in zip(models(name), (1, 2), strict=True):
        with counted(model) as counts:
            losses = model.train()(batch())
            assert counts == {"encoder": 3, "decoder": 2}
            sum(losses.values()).backward()
        assert counts == {"encoder": 3 * times, "decoder": 2 * times}


def test_each_part_has_its_own_switch():
    _, model = models("smca")
    model.decoder.activation_checkpointing = False
    with counted(model) as counts:
        sum(model.train()(batch()).values()).backward()
    assert counts == {"encoder": 6, "decoder": 2}


def test_it_takes_less_memory():
    """Bytes that autograd keeps between the passes."""
    kept_bytes = []
    for model in models("smca"):
        kept = {}

        def pack(tensor, kept=kept):
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        for part in (model.backbone, model.neck):
            part.requires_grad_(False)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            losses = model.train()(batch())
        kept_bytes.append(sum(kept.values()))
        sum(losses.values()).backward()
    assert kept_bytes[1] < 0.6 * kept_bytes[0]


@pytest.mark.parametrize("name", NAMES)
def test_inference_is_the_same_and_computes_once(name):
    results = []
    for model in models(name, dropout=0.3):
        with torch.no_grad(), counted(model) as counts:
            results.append(model.eval().raw_outputs(batch()))
        assert counts == {"encoder": 3, "decoder": 2}
    for key, tensor in results[0].items():
        assert torch.equal(tensor, results[1][key])


@pytest.mark.parametrize("name", NAMES)
def test_the_switch_is_in_the_configs(name):
    config = small_config(name)
    assert not instantiate(config).encoder.activation_checkpointing
    config.encoder.activation_checkpointing = config.decoder.activation_checkpointing = True
    model = instantiate(config)
    assert model.encoder.activation_checkpointing
    assert model.decoder.activation_checkpointing
