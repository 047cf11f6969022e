"""A backbone of one's own: any of Detectron2's, with the padding that it needs."""

import torch
from detectron2.config import LazyCall as L
from detectron2.config import instantiate
from detectron2.layers import ShapeSpec
from detectron2.modeling import Backbone
from torch import nn

from helpers.builders import small_config
from smca.layers.padding import padding_mask


class PatchBackbone(Backbone):
    """Patches of 32 pixels, which have to be whole."""

    size_divisibility = 32

    def __init__(self, channels):
        super().__init__()
        self.channels = channels
        self.patches = nn.Conv2d(3, channels, 32, stride=32)

    def forward(self, pixels):
        assert pixels.shape[-2] % 32 == pixels.shape[-1] % 32 == 0
        return {"patches": self.patches(pixels)}

    def output_shape(self):
        return {"patches": ShapeSpec(channels=self.channels, stride=32)}


def use_patches(model):
    model.backbone = L(PatchBackbone)(channels=48)
    model.neck.in_features = ["patches"]


def test_a_backbone_with_whole_patches(train_and_predict):
    model = train_and_predict(use_patches)["model"].eval()
    image = {"image": torch.full((3, 70, 100), 100, dtype=torch.uint8)}
    images = model.preprocess_images([image])
    assert images.tensor.shape[-2:] == (96, 128)
    with torch.no_grad():
        _, decoded = model.run_network(images)
    # The rest of the last patches is padding; the image's own size is what counts.
    assert decoded.image_sizes.tolist() == [[100.0, 70.0]]


def test_patches_of_padding_are_masked():
    config = small_config("smca_single_scale")
    use_patches(config)
    model = instantiate(config)
    images = model.preprocess_images(
        [{"image": torch.zeros(3, 70, 100)}, {"image": torch.zeros(3, 30, 60)}]
    )
    (level,) = model.neck(
        model.backbone(images.tensor), padding_mask(images.tensor, images.image_sizes)
    )
    # Of 3 x 4 patches the small image has 1 x 2.
    assert (~level.padding_mask).sum(1).tolist() == [12, 2]
