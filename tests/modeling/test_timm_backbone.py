import sys

import pytest
import torch
from detectron2.config import LazyCall as L
from detectron2.config import instantiate
from detectron2.layers import FrozenBatchNorm2d

from helpers.builders import small_config
from smca.checkpoint import load_initial_weights
from smca.modeling import TimmBackbone

timm = pytest.importorskip("timm")


@pytest.mark.parametrize("name", ["resnet10t", "convnext_atto", "swin_tiny_patch4_window7_224"])
def test_feature_maps_are_as_announced(name):
    size = 224 if "swin" in name else 96
    backbone = TimmBackbone(name=name, strides=[32, 16]).eval()
    with torch.no_grad():
        features = backbone(torch.zeros(2, 3, size, size))
    assert list(features) == list(backbone.output_shape()) == ["stride16", "stride32"]
    for feature, shape in zip(features.values(), backbone.output_shape().values(), strict=True):
        assert feature.shape == (2, shape.channels, size // shape.stride, size // shape.stride)


def test_in_a_model(tmp_path):
    config = small_config("smca")
    config.backbone = L(TimmBackbone)(name="resnet10t", strides=[16, 32], size_divisibility=64)
    config.neck.in_features = ["stride16", "stride32"]
    model = instantiate(config).eval()
    with torch.no_grad():
        found = model([{"image": torch.zeros(3, 70, 100)}])[0]["instances"]
    assert found.image_size == (70, 100)
    assert model.backbone.size_divisibility == 64


def test_its_own_weights_are_loaded_when_asked_for(monkeypatch):
    """What timm would download, drawn here."""
    create, asked = timm.create_model, []

    def drawn(name, *, pretrained=False, **options):
        made = create(name, **options)
        asked.append(pretrained)
        if pretrained:
            for parameter in made.parameters():
                torch.nn.init.constant_(parameter, 0.25)
        return made

    monkeypatch.setattr(timm, "create_model", drawn)
    config = small_config("smca_single_scale")
    config.backbone = L(TimmBackbone)(name="resnet10t", frozen_norm=True)
    config.neck.in_features = ["stride32"]
    model = instantiate(config)
    assert not any(asked)
    report = load_initial_weights(model, "timm://resnet10t", report=False)
    assert sum(asked) == 1
    assert all(name.startswith("backbone.body.") for name in report.loaded)
    assert not [name for name in report.missing if name.startswith("backbone")]
    assert (model.backbone.body.conv1[0].weight == 0.25).all()
    assert any(isinstance(module, FrozenBatchNorm2d) for module in model.backbone.modules())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"name": "resnet10x"}, "timm has no model 'resnet10x'; did you mean resnet10t"),
        ({"name": "hf-hub:someone/something"}, "timm has no model 'hf-hub"),
        ({"name": "resnet10t", "strides": [8, 64]}, r"gives features of strides \[.*\], not 64"),
    ],
)
def test_what_is_not_there(options, words):
    with pytest.raises(ValueError, match=words):
        TimmBackbone(**options)


def test_without_timm(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ValueError, match=r"timm is not installed; pip install 'smca\[timm\]'"):
        TimmBackbone(name="resnet10t")


def test_weights_that_cannot_be_had(monkeypatch):
    create = timm.create_model

    def offline(name, *, pretrained=False, **options):
        if pretrained:
            raise OSError("no network\nlong story")
        return create(name, **options)

    monkeypatch.setattr(timm, "create_model", offline)
    model = instantiate(small_config("detr"))
    with pytest.raises(ValueError, match=r"timm://resnet10t: timm cannot get .* \(no network\)"):
        load_initial_weights(model, "timm://resnet10t")
