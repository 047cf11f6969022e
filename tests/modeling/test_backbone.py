import pytest
import torch
from detectron2.layers import FrozenBatchNorm2d
from detectron2.modeling import ResNet
from detectron2.modeling.backbone.resnet import BasicStem
from detectron2.structures import ImageList
from torch import nn
from torchvision.models import resnet18, resnet50

from smca.checkpoint.conversion.convert_released import convert_resnet
from smca.layers.padding import padding_mask
from smca.modeling import build_resnet


def structure(module):
    """Shape of every tensor, and stride and dilation of every convolution."""
    shapes = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    convolutions = {
        name: (m.stride, m.dilation, m.padding)
        for name, m in module.named_modules()
        if isinstance(m, nn.Conv2d)
    }
    return shapes, convolutions


@pytest.mark.parametrize("depth", [18, 34, 50, 101])
def test_is_detectron2s_own_resnet(depth):
    with torch.device("meta"):
        options = {} if depth < 50 else {"stride_in_1x1": False}
        stages = ResNet.make_default_stages(depth, norm="FrozenBN", **options)
        theirs = ResNet(BasicStem(3, 64, norm="FrozenBN"), stages, out_features=["res4", "res5"])
        ours = build_resnet(depth=depth, out_features=["res4", "res5"])

    assert structure(ours) == structure(theirs)
    assert ours.output_shape() == theirs.output_shape()


@pytest.mark.parametrize("dilate_res5", [False, True])
def test_bottlenecks_give_torchvisions_features(dilate_res5):
    theirs = resnet50(replace_stride_with_dilation=[False, False, dilate_res5])
    ours = build_resnet(depth=50, out_features=["res4", "res5"], dilate_res5=dilate_res5)

    compare_features(ours, theirs)

    assert ours.output_shape()["res5"].stride == (16 if dilate_res5 else 32)


def test_basic_blocks_give_torchvisions_features():
    compare_features(build_resnet(depth=18, out_features=["res4", "res5"]), resnet18())


@torch.no_grad()
def compare_features(ours, theirs):
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.running_var):
                tensor.uniform_(0.5, 1.0)
            for tensor in (module.bias, module.running_mean):
                tensor.normal_(0, 0.1)
    weights = convert_resnet(theirs.state_dict())
    ours.load_state_dict(
        {name.removeprefix("backbone."): tensor for name, tensor in weights.items()}, strict=True
    )
    ours, theirs = ours.double().eval(), theirs.double().eval()
    image = torch.randn(1, 3, 65, 94, dtype=torch.float64)

    features = ours(image)

    x = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(image))))
    res4 = theirs.layer3(theirs.layer2(theirs.layer1(x)))
    for name, expected in (("res4", res4), ("res5", theirs.layer4(res4))):
        assert expected.abs().max() > 0.1
        torch.testing.assert_close(features[name], expected, rtol=1e-9, atol=1e-9)


@torch.no_grad()
@pytest.mark.parametrize(
    ("depth", "dilate_res5"), [(18, False), (50, False), pytest.param(50, True, id="50-DC5")]
)
def test_features_of_a_padded_image_are_those_it_has_alone(depth, dilate_res5):
    resnet = build_resnet(
        depth=depth, out_features=["res4", "res5"], stem_channels=8, dilate_res5=dilate_res5
    ).double()
    for module in resnet.modules():
        # What padding becomes behind a norm is no zero.
        if isinstance(module, FrozenBatchNorm2d):
            module.bias.normal_(0.2, 0.1)
    sizes = [(97, 131), (61, 160), (128, 33)]
    images = [torch.randn(3, *size, dtype=torch.float64) for size in sizes]
    batch = ImageList.from_tensors(images, 32)

    features = resnet(batch.tensor, padding_mask(batch.tensor, batch.image_sizes))

    leaking = resnet(batch.tensor)
    for b, image in enumerate(images):
        for name, alone in resnet(image[None]).items():
            h, w = alone.shape[-2:]
            torch.testing.assert_close(features[name][b, :, :h, :w], alone[0], rtol=1e-9, atol=1e-9)
            assert (leaking[name][b, :, :h, :w] - alone[0]).abs().max() > 1e-3


def test_stem_channels_set_the_width_of_all_stages():
    resnet = build_resnet(depth=50, stem_channels=16, out_features=["res2", "res5"], norm="BN")

    shapes = resnet.output_shape()

    assert {name: shape.channels for name, shape in shapes.items()} == {"res2": 64, "res5": 512}


def test_stages_after_the_last_feature_are_not_built():
    resnet = build_resnet(depth=18, out_features=["res4"], stem_channels=8)

    assert {name.split(".")[0] for name, _ in resnet.named_parameters()} == {
        "stem",
        "res2",
        "res3",
        "res4",
    }


def test_frozen_stages_have_no_gradient():
    resnet = build_resnet(depth=18, out_features=["res5"], stem_channels=8, freeze_at=2, norm="BN")

    trained = {name.split(".")[0] for name, p in resnet.named_parameters() if p.requires_grad}

    assert trained == {"res3", "res4", "res5"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"depth": 51}, "depth 51 is unknown"),
        ({"out_features": ["res5", "res6"]}, "out_features.*res6.*must name stages"),
        ({"out_features": []}, "must name stages"),
        ({"depth": 18, "dilate_res5": True}, "dilate_res5 needs bottleneck"),
    ],
)
def test_errors(options, words):
    with pytest.raises(ValueError, match=words):
        build_resnet(**options)


@pytest.mark.parametrize("depth", [18, 50])
@pytest.mark.parametrize("size", [(64, 96), (65, 35)])
def test_features_and_gradients_do_not_depend_on_the_memory_layout(depth, size):
    torch.manual_seed(0)
    backbone = build_resnet(depth=depth, out_features=("res4", "res5"), stem_channels=32)
    with torch.no_grad():
        for module in backbone.modules():
            if isinstance(module, FrozenBatchNorm2d):
                module.running_var.fill_(3.0)
    pixels = torch.randn(2, 3, *size)
    results = []
    for layout in (torch.contiguous_format, torch.channels_last):
        features = backbone(pixels.contiguous(memory_format=layout))
        assert features["res5"].is_contiguous(memory_format=layout)
        sum(x.square().sum() for x in features.values()).backward()
        grads = {n: p.grad for n, p in backbone.named_parameters() if p.requires_grad}
        results.append({**features, **grads})
        backbone.zero_grad(set_to_none=True)
    assert any("shortcut.weight" in name for name in results[0])
    for name, expected in results[0].items():
        scale = expected.abs().max().item()
        torch.testing.assert_close(results[1][name], expected, atol=1e-4 * scale, rtol=0)


def test_a_strided_projection_never_trains_as_such(monkeypatch):
    """oneDNN's backward pass of it writes out of bounds where channels are last."""
    seen = []
    real = nn.functional.conv2d

    def watched(x, weight, bias=None, stride=(1, 1), *rest):
        seen.append((tuple(weight.shape[2:]), tuple(stride)))
        return real(x, weight, bias, stride, *rest)

    monkeypatch.setattr(nn.functional, "conv2d", watched)
    backbone = build_resnet(depth=50)
    backbone(torch.randn(1, 3, 64, 64))
    assert ((3, 3), (2, 2)) in seen
    assert ((1, 1), (2, 2)) not in seen
    with torch.no_grad():
        backbone(torch.randn(1, 3, 64, 64))
    assert ((1, 1), (2, 2)) in seen
