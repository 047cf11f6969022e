"""Compiled parts: one graph each, the same numbers, the same checkpoint."""

import pytest
import torch
from detectron2.config import instantiate
from torch import _dynamo as dynamo

from helpers.builders import small_config, training_input
from smca.engine.compilation import compile_parts


def batch(*sizes):
    return [training_input(*size, 2, seed=seed) for seed, size in enumerate(sizes)]


BATCHES = (batch((64, 96), (48, 64)), batch((96, 128), (96, 80)))
"""Padded at the bottom and right, and at the right only."""


@pytest.mark.parametrize("name", ["smca", "smca_plus_single_scale"])
def test_a_training_is_one_graph_a_part_for_all_sizes(name):
    config = small_config(name)
    config.decoder.num_layers = 1
    config.encoder.blocks = "Multi" if config.encoder.num_levels > 1 else "Intra"
    model = instantiate(config)
    names = list(model.state_dict())

    def losses():
        for images in BATCHES:
            torch.manual_seed(0)
            yield model(images)

    expected = list(losses())
    dynamo.reset()
    compile_parts(model, backend="eager", fullgraph=True)
    try:
        for ours, theirs in zip(losses(), expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    finally:
        dynamo.reset()
    assert list(model.state_dict()) == names
