"""Checkpoint files of small models that describe themselves."""

from collections.abc import Mapping
from pathlib import Path

import torch
from detectron2.config import instantiate
from omegaconf import OmegaConf
from torch import nn

from smca import model_zoo
from smca.checkpoint import ModelInfo, model_info_from_lazy
from smca.description.model_info import INFO_KEY

from .builders import draw_parameters, small_config

CLASS_NAMES = ("cat", "dog", "bird")


def save_described(path: Path, model: nn.Module, info: ModelInfo, **entries) -> Path:
    """What a training or ``publish_checkpoint`` writes, without its optimizer."""
    torch.save({"model": model.state_dict(), INFO_KEY: info.to_json(), **entries}, path)
    return path


def tiny_checkpoint(
    path: Path,
    name: str = "smca_single_scale",
    *,
    overrides: Mapping[str, object] | None = None,
    **info_fields,
) -> Path:
    """Drawn weights of ``configs/models/<name>.py`` in miniature, three classes, images of 64 to 96 pixels."""
    config = small_config(name, num_classes=len(CLASS_NAMES))
    for field, value in (overrides or {}).items():
        OmegaConf.update(config, field, value)
    model = instantiate(config)
    for part in (model.neck, model.encoder, model.decoder, model.heads):
        draw_parameters(part)
    _settle_norms(model)
    info = model_info_from_lazy(OmegaConf.create({"model": config}, flags={"allow_objects": True}))
    fields = {"class_names": CLASS_NAMES, "min_size_test": 64, "max_size_test": 96, **info_fields}
    return save_described(path, model, ModelInfo(model=info.model, **fields))


def zoo_checkpoint(path: Path, name: str, *, class_names: tuple[str, ...] = ()) -> Path:
    """An experiment's model with weights whose outputs depend on the image, unlike those of a fresh one."""
    torch.manual_seed(0)
    config = model_zoo.get_config(name)
    model = instantiate(config.model)
    heads = getattr(model, "heads", None)
    if heads is not None:
        for classifier in _each(heads.classifier):
            nn.init.normal_(classifier.weight, std=0.1)
        boxes = model.decoder.refinement.steps if heads.box is None else [heads.box]
        for box in boxes:
            nn.init.normal_(box.layers[-1].weight, std=0.1)
    _settle_norms(model)
    info = model_info_from_lazy(config, config_name=name, class_names=class_names)
    return save_described(path, model, info)


def _each(module: nn.Module) -> list[nn.Module]:
    return list(module) if isinstance(module, nn.ModuleList) else [module]


def _settle_norms(model: nn.Module) -> None:
    """Statistics and scales as after a training, so that a norm is more than an identity."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            shape = module.running_mean.shape
            module.running_mean.copy_(0.2 * torch.randn(shape, generator=generator))
            module.running_var.copy_(0.5 + torch.rand(shape, generator=generator))
            with torch.no_grad():
                module.weight.copy_(1 + 0.2 * torch.randn(shape, generator=generator))
                module.bias.copy_(0.2 * torch.randn(shape, generator=generator))
