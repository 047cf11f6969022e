import pytest
import torch
from detectron2.config import instantiate
from torch import nn

from smca import model_zoo
from smca.engine import get_param_groups


class Detector(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.ModuleDict({"stem": nn.Linear(2, 2), "res3": nn.Linear(2, 2)})
        self.backbone_neck = nn.Linear(2, 2)
        self.head = nn.Linear(2, 2, bias=False)
        self.tied = self.head


def ids(parameters) -> list[int]:
    return [id(p) for p in parameters]


def test_backbone_has_its_own_rate_and_the_rest_the_default():
    model = Detector()
    rest, backbone = get_param_groups(model, backbone_lr=0.25)
    assert backbone["lr"] == 0.25
    assert "lr" not in rest
    assert ids(backbone["params"]) == ids(model.backbone.parameters())
    assert ids(rest["params"]) == ids([*model.backbone_neck.parameters(), *model.head.parameters()])


def test_frozen_parameters_are_left_out():
    model = Detector()
    model.backbone["stem"].requires_grad_(False)
    model.head.requires_grad_(False)
    rest, backbone = get_param_groups(model, backbone_lr=0.25)
    assert ids(backbone["params"]) == ids(model.backbone["res3"].parameters())
    assert ids(rest["params"]) == ids(model.backbone_neck.parameters())


def test_no_empty_group():
    model = Detector()
    model.backbone.requires_grad_(False)
    (only,) = get_param_groups(model, backbone_lr=0.25)
    assert "lr" not in only


def test_every_trainable_parameter_of_the_full_model_once():
    with torch.device("meta"):
        model = model_zoo.get("smca_r50_50ep")
    groups = get_param_groups(model, backbone_lr=1e-5)
    grouped = [p for group in groups for p in group["params"]]
    trainable = [p for p in model.parameters() if p.requires_grad]
    assert sorted(ids(grouped)) == sorted(ids(trainable))
    assert len(set(ids(grouped))) == len(grouped)
    # Stem and res2 are frozen, FrozenBN has no parameters at all.
    names = {id(p): name for name, p in model.named_parameters()}
    in_backbone = [names[id(p)] for p in groups[1]["params"]]
    assert {name.split(".")[1] for name in in_backbone} == {"res3", "res4", "res5"}

    optimizer = torch.optim.AdamW(groups, lr=1e-4)
    assert [group["lr"] for group in optimizer.param_groups] == [1e-4, 1e-5]


def test_modules_have_factors_of_the_base_rate():
    model = Detector()
    factors = {"backbone_neck": 0.1, "weight": 0.5}

    backbone, neck, other = get_param_groups(
        model, backbone_lr=0.25, lr_factors=factors, base_lr=2.0
    )

    assert backbone["lr"] == 0.25
    assert ids(backbone["params"]) == ids(model.backbone.parameters())
    # The first factor that fits counts.
    assert neck["lr"] == pytest.approx(0.2)
    assert ids(neck["params"]) == ids(model.backbone_neck.parameters())
    assert other["lr"] == 1.0
    assert ids(other["params"]) == ids(model.head.parameters())


def test_deformable_detr_learns_where_to_look_slower():
    with torch.device("meta"):
        model = model_zoo.get("deformable_detr_r50_50ep")
    config = model_zoo.get_config("deformable_detr_r50_50ep").optimizer
    config.params.model = model
    groups = instantiate(config).param_groups

    assert [group["lr"] for group in groups] == pytest.approx([2e-4, 2e-5, 2e-5, 2e-5])
    names = {id(p): name for name, p in model.named_parameters()}
    kinds = [{names[id(p)].split(".")[-2] for p in group["params"]} for group in groups]
    assert kinds[2:] == [{"sampling_offsets"}, {"reference_points"}]
    # Weight and bias of 6 layers of the encoder and 6 of the decoder.
    assert len(groups[2]["params"]) == 24
    assert not {"sampling_offsets", "reference_points"} & kinds[0]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"lr_factors": {"tail": 0.1}, "base_lr": 1.0}, "'tail'.*no trainable module"),
        ({"lr_factors": {"stem": 0.1}, "base_lr": 1.0}, "'stem'.*no trainable module"),
        ({"lr_factors": {"head": 0.1}}, "needs base_lr"),
    ],
)
def test_factors_that_mean_nothing_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        get_param_groups(Detector(), backbone_lr=0.25, **options)
