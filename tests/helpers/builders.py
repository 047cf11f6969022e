"""Small models from the repository's configs, feature levels and inputs of any size."""

from pathlib import Path

import torch
from detectron2.config import LazyConfig, instantiate
from detectron2.structures import Boxes, Instances
from omegaconf import DictConfig
from torch import Tensor, nn

from smca.modeling import SMCA, FeatureLevel

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "tests" / "reference"


def model_config(name: str) -> DictConfig:
    """The model of ``configs/models/<name>.py``."""
    return LazyConfig.load(str(ROOT / "configs" / "models" / f"{name}.py")).model


def small_config(name: str, *, num_classes: int = 3, norm: str = "BN") -> DictConfig:
    """The same model in miniature: ResNet-18 of an eighth of the width, 16 channels."""
    config = model_config(name)
    config.num_classes = num_classes
    config.backbone.depth = 18
    config.backbone.stem_channels = 8
    config.backbone.norm = norm
    config.backbone.freeze_at = 0
    config.neck.embed_dim = 16
    config.encoder.num_heads = 4
    config.encoder.ffn_dim = 24
    config.encoder.dropout = 0.0
    if "blocks" in config.encoder:
        config.encoder.blocks = "Intra-Multi"
    else:
        config.encoder.num_layers = 2
    if config.neck.get("num_groups"):
        config.neck.num_groups = 4
    config.decoder.num_queries = 7
    config.decoder.num_layers = 2
    if name.startswith("smca_plus"):
        config.decoder.queries.num_denoising = 8
    return config


def small_model(name: str, **options) -> SMCA:
    """Drawn weights everywhere, so that no layer hides behind a zero of the initialisation."""
    model = instantiate(small_config(name, **options))
    for part in (model.neck, model.encoder, model.decoder, model.heads):
        draw_parameters(part)
    return model


def draw_parameters(module: nn.Module, seed: int = 0) -> nn.Module:
    """Random values in every parameter: matrices of gain 1, norms' weights around 1."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            drawn = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            if parameter.dim() > 1 and name != "level_embedding":
                drawn = drawn / parameter[0].numel() ** 0.5
            elif "norm" in name and name.endswith("weight"):
                drawn = 1 + 0.2 * drawn
            else:
                drawn = 0.3 * drawn
            parameter.copy_(drawn)
    return module


def feature_levels(
    image_sizes: list[tuple[int, int]],
    strides: tuple[int, ...],
    embed_dim: int,
    *,
    seed: int = 0,
) -> list[FeatureLevel]:
    """Random float64 levels of images of (height, width) pixels, padded to the largest."""
    generator = torch.Generator().manual_seed(seed)
    height, width = (max(sizes) for sizes in zip(*image_sizes, strict=True))
    levels = []
    for stride in strides:
        h, w = -(-height // stride), -(-width // stride)
        mask = torch.ones(len(image_sizes), h, w, dtype=torch.bool)
        for b, (image_height, image_width) in enumerate(image_sizes):
            mask[b, : -(-image_height // stride), : -(-image_width // stride)] = False
        tokens, position = torch.randn(
            2, len(image_sizes), h * w, embed_dim, generator=generator, dtype=torch.float64
        )
        padding_mask = mask.flatten(1) if mask.any() else None
        levels.append(FeatureLevel(tokens, position, padding_mask, (h, w), stride))
    return levels


def sizes_tensor(image_sizes: list[tuple[int, int]]) -> Tensor:
    """(height, width) pairs -> the decoder's (B, 2) float64 (width, height)."""
    return torch.tensor([(w, h) for h, w in image_sizes], dtype=torch.float64)


def training_input(
    height: int, width: int, num_objects: int, *, num_classes: int = 3, seed: int = 0
) -> dict:
    """One image of noise with random objects in Detectron2's format."""
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(num_objects, 4, generator=generator) * 0.5
    corners[:, 2:] += corners[:, :2] + 0.05
    instances = Instances((height, width))
    instances.gt_boxes = Boxes(corners.clamp(max=1) * torch.tensor([width, height] * 2))
    instances.gt_classes = torch.randint(num_classes, (num_objects,), generator=generator)
    image = torch.randint(256, (3, height, width), generator=generator, dtype=torch.uint8)
    return {"image": image, "instances": instances}


def trainable_parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters() if p.requires_grad)
