"""Compiled parts: a graph each for all sizes, the same numbers, the same checkpoint."""

import pytest
import torch
from detectron2.config import instantiate
from torch import _dynamo as dynamo
from torch import nn
from torch._inductor.exc import InvalidCxxCompiler

from helpers.builders import small_config, small_model, training_input
from smca.compilation import COMPILED_PARTS, compile_parts
from smca.errors import InputError


def batch(*sizes):
    return [training_input(*size, 2, seed=seed) for seed, size in enumerate(sizes)]


BATCHES = (batch((192, 320), (160, 192)), batch((256, 384), (192, 320)))
"""Both padded; a map of one cell would be a graph of its own."""


@pytest.mark.parametrize("name", ["smca", "smca_plus_single_scale"])
def test_a_part_is_one_graph_for_all_sizes(name):
    config = small_config(name)
    config.decoder.num_layers = 1
    config.encoder.blocks = "Multi" if config.encoder.num_levels > 1 else "Intra"
    model = instantiate(config)
    names = list(model.state_dict())
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    def losses():
        for images in BATCHES:
            torch.manual_seed(0)
            yield model(images)

    expected = list(losses())
    dynamo.reset()
    compile_parts(model, backend=backend, fullgraph=True)
    # What it tried the compiler with.
    graphs.clear()
    try:
        for ours, theirs in zip(losses(), expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    finally:
        dynamo.reset()
    assert len(graphs) == len(COMPILED_PARTS)
    assert list(model.state_dict()) == names


def test_other_models_are_refused():
    with pytest.raises(InputError, match=r"compile is for .*Linear has no backbone"):
        compile_parts(nn.Linear(1, 1))


def test_without_a_compiler_it_says_so_at_once():
    def backend(graph, inputs):
        raise InvalidCxxCompiler

    model = small_model("smca_single_scale")
    dynamo.reset()
    try:
        with pytest.raises(InputError, match=r"compile: .*No working C\+\+ compiler.*leave it"):
            compile_parts(model, backend=backend)
    finally:
        dynamo.reset()
    assert model.encoder._compiled_call_impl is None
