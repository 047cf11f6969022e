"""Checkpoints under names of others beside models of ours: one function for training, prediction and conversion."""

import dataclasses

import pytest
import torch
from torch import nn
from torchvision.models import resnet18

from helpers.builders import draw_parameters, small_model
from smca import Predictor
from smca.checkpoint import ModelFile, ModelInfo, load_initial_weights, weights_of_described
from smca.checkpoint.conversion.class_columns import COCO_CATEGORY_IDS, COCO_CLASS_NAMES
from smca.checkpoint.loading import our_names
from smca.checkpoint.loading.our_names import Family, find_family, to_our_names
from smca.errors import InputError
from smca.model_zoo.convert_file import convert_state_dict
from smca.modeling import build_resnet

BIAS = "heads.classifier.bias"


def released(columns: int, name: str = "detr_published") -> ModelFile:
    """A published detector whose classifier's bias counts its columns."""
    model = small_model(name, num_classes=80)
    state = convert_state_dict(model.state_dict(), to_released=True, class_columns=92).state_dict
    state["class_embed.bias"] = torch.arange(columns).float()
    state["class_embed.weight"] = state["class_embed.weight"][:1].expand(columns, -1).clone()
    return ModelFile(path="released.pth", state_dict=state)


@pytest.mark.parametrize(
    ("name", "num_classes", "columns", "rows"),
    [
        ("detr_published", 80, 92, [*COCO_CATEGORY_IDS, 91]),
        ("detr", 80, 92, [*COCO_CATEGORY_IDS]),
        ("detr", 80, 91, [*COCO_CATEGORY_IDS]),
        # Column 90 is a class.
        ("detr_published", 80, 91, [*COCO_CATEGORY_IDS]),
        # As many as the model has.
        ("detr_published", 91, 92, list(range(92))),
        ("detr", 92, 92, list(range(92))),
        ("detr", 5, 5, list(range(5))),
        # Neither: COCO's, by whose names rows are carried over, or all that there are.
        ("detr_published", 3, 92, [*COCO_CATEGORY_IDS, 91]),
        ("detr", 3, 21, list(range(21))),
    ],
)
def test_one_policy_for_columns_of_classes(name, num_classes, columns, rows):
    model = small_model(name, num_classes=num_classes)
    tensors, names = to_our_names(released(columns), model)
    assert tensors[BIAS].tolist() == rows
    assert names == (COCO_CLASS_NAMES if len(rows) in (80, 81) else ())


@pytest.mark.parametrize("name", ["detr_published", "smca_single_scale"])
def test_without_a_model_the_prior_tells_of_no_object(name):
    tensors, _ = to_our_names(released(92, name))
    assert len(tensors[BIAS]) == (81 if name == "detr_published" else 80)


def test_a_published_model_is_filled_and_described():
    model = small_model("detr_published", num_classes=80)
    own = model.state_dict()
    state = convert_state_dict(own, to_released=True, class_columns=92).state_dict
    tensors, _ = to_our_names(ModelFile(path="", state_dict=state), model)
    assert [k for k, v in tensors.items() if not torch.equal(v, own[k])] == []
    info = ModelInfo(model={"_target_": "os.system", "command": "true"})
    with pytest.raises(InputError, match=r"os\.system"):
        weights_of_described(info, ModelFile(path="", state_dict=state))


class Backbone(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = build_resnet(depth=18, norm="BN", freeze_at=0)


def test_a_training_starts_from_a_torchvision_file(tmp_path):
    theirs, model = draw_parameters(resnet18()), Backbone()
    torch.save(theirs.state_dict(), tmp_path / "resnet18.pth")
    load_initial_weights(model, str(tmp_path / "resnet18.pth"))
    assert torch.equal(model.backbone.stem.conv1.weight, theirs.conv1.weight)
    assert torch.equal(model.backbone.res5[1].conv2.norm.bias, theirs.layer4[1].bn2.bias)


class Own(nn.Module):
    """A user's model whose own names begin as published ones do."""

    def __init__(self):
        super().__init__()
        self.transformer = nn.Linear(2, 2)


def test_names_of_the_model_are_no_names_of_others(tmp_path):
    source, model = Own(), Own()
    torch.save(source.state_dict(), tmp_path / "w.pth")
    load_initial_weights(model, str(tmp_path / "w.pth"))
    assert torch.equal(model.transformer.weight, source.transformer.weight)


def test_a_further_family_is_one_entry(monkeypatch, tmp_path):
    """As of a published model whose names are special cases of DETR's."""
    other = Family(
        "other detector",
        lambda tensors: "transformer.level_embed" in tensors,
        lambda tensors, classes: ({"weight": tensors["transformer.level_embed"]}, ("a", "b")),
    )
    monkeypatch.setattr(our_names, "FAMILIES", (other, *our_names.FAMILIES))
    state = {"transformer.level_embed": torch.ones(2, 2)}
    assert find_family(state) is other
    file = ModelFile(path="", state_dict=state)
    assert to_our_names(file)[1] == ("a", "b")
    torch.save(state, tmp_path / "w.pth")
    model = nn.Linear(2, 2)
    load_initial_weights(model, str(tmp_path / "w.pth"))
    assert (model.weight == 1).all()
    assert convert_state_dict(state).kind == "other detector"


def test_moving_averages_come_first():
    file = released(92)
    ema = {"class_embed.bias": torch.zeros(92)}
    tensors, _ = to_our_names(dataclasses.replace(file, ema=ema))
    assert not tensors[BIAS].any()


@pytest.mark.parametrize("source", ["torchvision://resnet50", "timm://resnet18"])
def test_backbones_are_no_checkpoints(source):
    with pytest.raises(InputError, match="backbone to start a training from"):
        Predictor.from_checkpoint(source)
