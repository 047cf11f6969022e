import dataclasses

import pytest
import torch
from detectron2.config import instantiate

from helpers.checkpoints import CLASS_NAMES, save_described
from smca import model_zoo
from smca.checkpoint import model_info_from_lazy


@pytest.fixture
def own_checkpoint(tmp_path):
    """Makes what a training of an experiment leaves for classes of one's own; its outputs depend on the image."""

    def make(name: str, **changes) -> str:
        torch.manual_seed(0)
        config = model_zoo.get_config(name)
        config.model.num_classes = len(CLASS_NAMES)
        for field, value in changes.items():
            part, _, leaf = field.partition("__")
            config.model[part][leaf] = value
        model = instantiate(config.model)
        torch.nn.init.normal_(model.heads.classifier.weight, std=0.1)
        torch.nn.init.normal_(model.heads.box.layers[-1].weight, std=0.1)
        info = dataclasses.replace(
            model_info_from_lazy(config, config_name=name, class_names=CLASS_NAMES),
            min_size_test=64,
            max_size_test=96,
        )
        return str(save_described(tmp_path / "own.pth", model, info))

    return make


@pytest.fixture(scope="package", autouse=True)
def one_thread():
    """Threads cost more than they gain on images as small as these."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
