import logging
import urllib.error

import pytest
import torch
import torchvision
from detectron2.checkpoint import DetectionCheckpointer
from torch import nn
from torchvision.models import ResNet50_Weights

from helpers.builders import draw_parameters, small_config, small_model
from helpers.goldens import released_keys
from smca.checkpoint import frozen_norm_without_weights, load_initial_weights
from smca.checkpoint.conversion.convert_released import convert_name
from smca.modeling import build_resnet


@pytest.fixture(scope="module")
def source():
    return small_model("smca_single_scale")


@pytest.fixture
def model(source):
    """Of the same shape with other values."""
    return draw_parameters(small_model("smca_single_scale"), seed=5)


def tensors(model) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def save(content, folder, name="weights.pth") -> str:
    path = folder / name
    torch.save(content, path)
    return str(path)


def assert_equal_tensors(a, b):
    assert a.keys() == b.keys()
    assert [name for name in a if not torch.equal(a[name], b[name])] == []


def log_line(caplog, words: str) -> str:
    (line,) = [r.getMessage() for r in caplog.records if words in r.getMessage()]
    return line


@pytest.mark.parametrize("wrap", [lambda s: {"model": s, "iteration": 7}, lambda s: s])
def test_a_checkpoint_of_this_model(source, model, wrap, tmp_path, caplog):
    path = save(wrap(tensors(source)), tmp_path)
    with caplog.at_level(logging.INFO, "smca"):
        load_initial_weights(model, path)
    assert_equal_tensors(tensors(model), tensors(source))
    count = len(source.state_dict())
    assert [r.getMessage() for r in caplog.records if r.name.startswith("smca")] == [
        f"Loaded {count} of the model's {count} tensors from {path}."
    ]


def test_what_does_not_fit_is_named_and_the_rest_is_loaded(source, model, tmp_path, caplog):
    before, weights = tensors(model), tensors(source)
    weights["heads.classifier.bias"] = torch.zeros(92)
    weights["mask_head.weight"] = torch.zeros(2)
    del weights["decoder.query_embedding.weight"]
    with caplog.at_level(logging.INFO, "smca"):
        load_initial_weights(model, save({"model": weights}, tmp_path))

    left = {"heads.classifier.bias", "decoder.query_embedding.weight"}
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name] if name in left else weights[name]), name
    assert "heads.classifier.bias (92,) instead of (3,)" in log_line(caplog, "for their shape")
    assert log_line(caplog, "no such tensor").endswith(": mask_head.weight")
    assert log_line(caplog, "left as initialised").endswith(": decoder.query_embedding.weight")
    count = len(before)
    assert f"Loaded {count - 2} of the model's {count}" in log_line(caplog, "Loaded")


def test_a_long_list_is_cut(source, model, tmp_path, caplog):
    weights = tensors(source)
    weights.update({f"extra.{i}": torch.zeros(1) for i in range(40)})
    load_initial_weights(model, save(weights, tmp_path))
    line = log_line(caplog, "no such tensor")
    assert line.startswith("40 tensors")
    assert line.endswith("extra.11 and 28 more")


def test_quiet(source, model, tmp_path, caplog):
    path = save({**tensors(source), "extra": torch.zeros(1)}, tmp_path)
    with caplog.at_level(logging.INFO, "smca"):
        load_initial_weights(model, path, report=False)
    assert_equal_tensors(tensors(model), tensors(source))
    assert not caplog.records


def test_released_names_are_converted(source, model, tmp_path):
    own = source.state_dict()
    names = {name: convert_name(name) for name in released_keys("smca_single_scale")
             if not name.endswith("num_batches_tracked")}  # fmt: skip
    released = {name: own[target] for name, target in names.items() if target in own}
    assert {"class_embed.weight", "query_embed.weight"} <= set(released)
    assert any(".point3." in name for name in released)

    before = tensors(model)
    load_initial_weights(model, save({"model": released, "epoch": 49}, tmp_path))
    loaded = {names[name] for name in released}
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, own[name] if name in loaded else before[name]), name


def test_released_tensor_without_a_place(source, model, tmp_path):
    before = tensors(model)
    path = save({"model": {"transformer.level_embed": torch.zeros(4, 256)}}, tmp_path)
    with pytest.raises(ValueError, match=r"transformer\.level_embed"):
        load_initial_weights(model, path)
    assert_equal_tensors(tensors(model), before)


def test_detectron2s_checkpointer_writes_what_is_read(source, model, tmp_path):
    DetectionCheckpointer(source, str(tmp_path)).save("model_final", iteration=3)
    load_initial_weights(model, str(tmp_path / "model_final.pth"))
    assert_equal_tensors(tensors(model), tensors(source))


class Custom:
    pass


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda p: None, "does not exist"),
        (lambda p: p.write_bytes(b""), "cannot be read as a checkpoint"),
        (lambda p: p.write_bytes(b"\x00not a checkpoint" * 9), "cannot be read as a checkpoint"),
        (lambda p: torch.save({"model": Custom()}, p), "cannot be read as a checkpoint"),
        (lambda p: torch.save([torch.zeros(1)], p), "holds no state dict"),
        (lambda p: torch.save({"model": {"epoch": 3}}, p), "holds no state dict"),
        (lambda p: torch.save({"model": {"other.weight": torch.zeros(1)}}, p), "no tensor of"),
        (lambda p: torch.save({"heads.classifier.bias": torch.zeros(92)}, p), "no tensor of"),
    ],
)
def test_files_that_are_no_checkpoint_of_this_model(model, write, message, tmp_path):
    path = tmp_path / "weights.pth"
    write(path)
    before = tensors(model)
    with pytest.raises(ValueError, match=message) as error:
        load_initial_weights(model, str(path))
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    assert_equal_tensors(tensors(model), before)


def test_a_checkpoint_cut_short(source, model, tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(source.state_dict(), path)
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(ValueError, match="cannot be read as a checkpoint"):
        load_initial_weights(model, str(path))


class Detector(nn.Module):
    def __init__(self, norm="FrozenBN"):
        super().__init__()
        self.backbone = build_resnet(norm=norm, freeze_at=0)
        self.head = nn.Linear(2, 2)


@pytest.fixture(scope="module")
def resnet():
    """Torchvision's, with statistics that show."""
    network = torchvision.models.resnet50(weights=None)
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.running_mean, module.bias.data):
                tensor.copy_(0.1 * torch.randn(tensor.shape, generator=generator))
            for tensor in (module.running_var, module.weight.data):
                tensor.copy_(0.6 + 0.2 * torch.rand(tensor.shape, generator=generator))
    return network.eval()


def test_imagenet_weights_of_torchvision(resnet, monkeypatch, caplog):
    asked = []

    def downloaded(weights, **options):
        asked.append(weights)
        return resnet.state_dict()

    monkeypatch.setattr(ResNet50_Weights, "get_state_dict", downloaded)
    model = Detector().eval()
    head = model.head.weight.clone()
    assert frozen_norm_without_weights(model)
    with caplog.at_level(logging.INFO, "smca"):
        load_initial_weights(model, "torchvision://resnet50")

    assert asked == [ResNet50_Weights.IMAGENET1K_V1]
    assert not frozen_norm_without_weights(model)
    assert torch.equal(model.head.weight, head)
    assert log_line(caplog, "left as initialised").endswith(": head.weight, head.bias")
    assert not any("skipped" in r.getMessage() for r in caplog.records)

    image = torch.randn(1, 3, 32, 64)
    with torch.no_grad():
        x = resnet.maxpool(resnet.relu(resnet.bn1(resnet.conv1(image))))
        expected = resnet.layer4(resnet.layer3(resnet.layer2(resnet.layer1(x))))
        found = model.backbone(image)["res5"]
    assert expected.std() > 0.01
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())


@pytest.mark.parametrize("name", ["resnet51", "", "fcos_resnet50_fpn"])
def test_torchvision_has_no_such_weights(name):
    with pytest.raises(ValueError, match="use resnet50 or resnet101"):
        load_initial_weights(nn.Linear(1, 1), f"torchvision://{name}")


def test_without_a_network(monkeypatch):
    def fail(weights, **options):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(ResNet50_Weights, "get_state_dict", fail)
    with pytest.raises(ValueError, match=r"cannot download https://.*no route to host") as error:
        load_initial_weights(nn.Linear(1, 1), "torchvision://resnet50")
    assert torch.hub.get_dir() in str(error.value)


def test_frozen_norms_show_whether_weights_were_loaded():
    frozen = small_model("smca_single_scale", norm="FrozenBN")
    assert frozen_norm_without_weights(frozen)
    for name, buffer in frozen.named_buffers():
        if name.endswith("running_mean"):
            buffer.fill_(0.1)
    assert not frozen_norm_without_weights(frozen)
    # One norm that was left out is enough.
    frozen.backbone.stem.conv1.norm.running_mean.zero_()
    assert frozen_norm_without_weights(frozen)


def test_trainable_norms_need_no_weights():
    assert small_config("detr").backbone.norm == "BN"
    assert not frozen_norm_without_weights(small_model("detr"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda state: None, None),
        (
            lambda state: state.pop("heads.classifier.bias"),
            "1 tensors missing in it (heads.classifier.bias)",
        ),
        (
            lambda state: state.update({"heads.classifier.bias": torch.zeros(92)}),
            "1 tensors of another shape (heads.classifier.bias (92,) instead of (3,))",
        ),
        (
            lambda state: state.update(more=torch.zeros(1)),
            "1 tensors that the model does not have (more)",
        ),
        (
            lambda state: state.update({"decoder.query_embedding.weight": torch.zeros(9, 16)}),
            "1 tensors of another number of rows (decoder.query_embedding.weight: 7 rows of 9 for 7)",
        ),
        # Neither is of any use for a prediction.
        (lambda state: state.pop("backbone.stem.conv1.norm.num_batches_tracked"), None),
        (lambda state: state.update({"x.num_batches_tracked": torch.zeros(1)}), None),
    ],
)
def test_what_keeps_it_from_being_the_checkpoints_model(source, model, change, words, tmp_path):
    weights = tensors(source)
    change(weights)
    assert load_initial_weights(model, save(weights, tmp_path)).misfit() == words
