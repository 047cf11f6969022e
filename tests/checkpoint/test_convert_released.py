import pytest
import torch
from detectron2.config import instantiate
from detectron2.data.datasets.builtin_meta import COCO_CATEGORIES
from torchvision.models import resnet101

from helpers.builders import model_config
from helpers.goldens import released_keys
from smca.checkpoint import convert_released
from smca.checkpoint.conversion.convert_released import convert_name, convert_resnet

CATEGORY_IDS = [c["id"] for c in COCO_CATEGORIES if c["isthing"]]


def released(name):
    """A state dict of the released names and shapes; row r of the classifier holds r."""
    state = {key: torch.zeros(shape) for key, shape in released_keys(name).items()}
    rows = len(state["class_embed.bias"])
    state["class_embed.bias"] = torch.arange(rows, dtype=torch.float32)
    state["class_embed.weight"] = torch.arange(rows)[:, None].expand(-1, 256).float()
    return state


def shapes_of(state):
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def model_shapes(config_name, num_classes, *, depth=50, dc5=False):
    config = model_config(config_name)
    config.num_classes = num_classes
    config.backbone.depth = depth
    if dc5:
        config.backbone.dilate_res5 = True
        config.neck.strides = [16]
    with torch.device("meta"):
        return shapes_of(instantiate(config).state_dict())


@pytest.mark.parametrize(
    ("name", "config", "num_classes"),
    [
        ("detr", "detr_published", 80),
        ("detr", "detr_published", 91),
        ("smca_single_scale", "smca_single_scale", 80),
        ("smca_single_scale", "smca_single_scale", 92),
    ],
)
def test_names_and_shapes_are_the_models(name, config, num_classes):
    converted = convert_released(released(name), num_classes)

    assert shapes_of(converted) == model_shapes(config, num_classes)


def test_names_of_dc5_are_those_of_resnet50():
    converted = convert_released(released("detr"))

    assert shapes_of(converted) == model_shapes("detr_published", 80, dc5=True)


def test_names_of_resnet101():
    with torch.device("meta"):
        body = resnet101().state_dict()
    state = {
        name: tensor
        for name, tensor in released("detr").items()
        if not name.startswith("backbone.")
    }
    for name, tensor in body.items():
        if not name.startswith("fc.") and not name.endswith("num_batches_tracked"):
            state[f"backbone.0.body.{name}"] = tensor

    converted = convert_released(state)

    assert shapes_of(converted) == model_shapes("detr_published", 80, depth=101)


def test_80_classes_keep_cocos_categories_and_no_object():
    converted = convert_released(released("detr"), 80)

    expected = [*CATEGORY_IDS, 91]
    assert converted["heads.classifier.bias"].tolist() == expected
    assert converted["heads.classifier.weight"][:, 0].tolist() == expected
    assert len(expected) == 81


def test_smca_has_no_column_for_no_object():
    converted = convert_released(released("smca_single_scale"), 80)

    assert converted["heads.classifier.bias"].tolist() == CATEGORY_IDS


@pytest.mark.parametrize(("name", "num_classes"), [("detr", 91), ("smca_single_scale", 92)])
def test_columns_that_fit_stay_as_they_are(name, num_classes):
    converted = convert_released(released(name), num_classes)

    assert converted["heads.classifier.bias"].tolist() == list(range(92))


def test_no_object_class_can_be_said():
    """A DETR with focal loss has no prior to tell it by, and no such column."""
    state = released("detr")

    converted = convert_released(state, 80, no_object_class=False)

    assert converted["heads.classifier.bias"].tolist() == CATEGORY_IDS
    assert len(convert_released(state, 92, no_object_class=False)["heads.classifier.bias"]) == 92


@pytest.mark.parametrize(
    ("name", "num_classes"), [("detr", 92), ("detr", 20), ("smca_single_scale", 91)]
)
def test_columns_that_do_not_fit_are_an_error(name, num_classes):
    words = rf"'class_embed\.\w+' has 92 class columns.*num_classes={num_classes}"
    with pytest.raises(ValueError, match=words):
        convert_released(released(name), num_classes)


def test_tensors_keep_their_values():
    state = released("smca_single_scale")
    pairs = {
        "input_proj.bias": "neck.projections.0.bias",
        "query_embed.weight": "decoder.query_embedding.weight",
        "transformer.encoder.layers.3.self_attn.in_proj_bias": (
            "encoder.blocks.3.attention.0.in_proj_bias"
        ),
        "transformer.encoder.layers.3.linear2.weight": "encoder.blocks.3.ffn.0.linear2.weight",
        "transformer.decoder.layers.2.multihead_attn.out_proj.weight": (
            "decoder.layers.2.co_attention.out_proj.weight"
        ),
        "transformer.decoder.layers.2.norm4.weight": "decoder.modulation.layers.2.norm.weight",
        "transformer.decoder.layers.0.point1.layers.1.bias": (
            "decoder.modulation.center.layers.1.bias"
        ),
        "transformer.decoder.layers.5.point2.bias": "decoder.modulation.layers.5.offset.bias",
        "transformer.decoder.layers.5.point3.bias": "decoder.modulation.layers.5.scale.bias",
        "backbone.0.body.layer3.5.bn2.running_mean": "backbone.res4.5.conv2.norm.running_mean",
        "backbone.0.body.layer1.0.downsample.0.weight": "backbone.res2.0.shortcut.weight",
        "backbone.0.body.bn1.weight": "backbone.stem.conv1.norm.weight",
    }
    for name in pairs:
        state[name] = torch.randn_like(state[name])

    converted = convert_released(state)

    for theirs, ours in pairs.items():
        assert torch.equal(converted[ours], state[theirs]), theirs


def test_batch_counters_are_left_out():
    state = released("detr")
    state["backbone.0.body.bn1.num_batches_tracked"] = torch.tensor(7)

    converted = convert_released(state)

    assert not any("num_batches" in name for name in converted)
    assert len(converted) == len(released("detr"))


@pytest.mark.parametrize(
    "name",
    [
        "transformer.decoder.layers.1.point1.layers.0.weight",
        "transformer.level_embed",
        "backbone.0.body.layer5.0.conv1.weight",
        "backbone.0.body.fc.weight",
        "mask_head.lay1.weight",
        "extra.query_embed.weight",
    ],
)
def test_tensor_without_a_place_is_named(name):
    with pytest.raises(ValueError, match=name.removeprefix("backbone.0.body.")):
        convert_released(released("detr") | {name: torch.zeros(1)})
    with pytest.raises(ValueError, match="tensor"):
        convert_name(name)


def test_torchvision_resnet_loses_its_classifier_only():
    with torch.device("meta"):
        state = resnet101().state_dict()

    converted = convert_resnet(state)

    backbone = {
        name: shape
        for name, shape in model_shapes("detr", 80, depth=101).items()
        if name.startswith("backbone.")
    }
    assert shapes_of(converted) == backbone
