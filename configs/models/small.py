"""Makes a model small enough to train from scratch on a CPU."""

from omegaconf import DictConfig


def shrink(model: DictConfig, *, num_classes: int = 10) -> None:
    """Half-width ResNet-18 with trainable norms, 128 channels, 20 queries, 3 decoder layers, no dropout."""
    model.num_classes = num_classes
    model.backbone.depth = 18
    model.backbone.stem_channels = 32
    model.backbone.norm = "BN"
    model.backbone.freeze_at = 0
    model.neck.embed_dim = 128
    model.encoder.ffn_dim = 512
    model.encoder.dropout = 0.0
    model.decoder.num_queries = 20
    model.decoder.num_layers = 3
    # Half of the digits' images have a shorter side, and from scratch a model learns pixels, not shares of an image.
    model.heads.size_reference = 128
    # A backbone from scratch has no features for classes yet. At the paper's weight of 2 the box losses drown
    # the class gradient: boxes are found, but classes stay at chance for more than a thousand iterations.
    model.criterion.class_weight = 10.0


def use_stride_16(model: DictConfig) -> None:
    """One level at stride 16: the objects of 128-pixel images are too small for stride 32."""
    model.backbone.out_features = ["res4"]
    model.neck.strides = [16]
    model.encoder.blocks = "2Intra"


def shrink_parts(model: DictConfig) -> None:
    """What parts beyond the paper (plus.py) have in a small model from scratch; those that are off stay off."""
    queries = model.decoder.get("queries")
    if queries is None or "num_denoising" not in queries:
        return
    model.decoder.modulation.typical_side = 200
    # Half of them make six objects, the most that an image has, three times.
    queries.num_denoising = 40 if queries.num_denoising else 0
