"""smca:// names from an index to models: resolved, cached, verified, loaded, also by Detectron2 itself."""

import hashlib
import json

import pytest
import torch
from detectron2.engine import DefaultPredictor
from detectron2.utils.file_io import PathManager

from helpers.builders import draw_parameters
from helpers.file_server import serve
from smca import model_zoo
from smca.checkpoint import load_initial_weights, model_info_from_lazy
from smca.model_zoo import index as index_module
from smca.model_zoo import resolve_weights

NAME = "digits/smca_single_scale"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(index_module, "_added", [])
    monkeypatch.delenv("SMCA_ZOO_INDEX", raising=False)
    monkeypatch.setenv("SMCA_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def model():
    return draw_parameters(model_zoo.get(NAME)).eval()


@pytest.fixture(scope="module")
def content(model, tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("published") / "w.pth"
    torch.save({"model": model.state_dict()}, path)
    return path.read_bytes()


@pytest.fixture
def server(content):
    with serve(content) as served:
        yield served


def add(tmp_path, url, content, name="team/digits", **fields):
    entry = {"url": url, "sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
    path = tmp_path / "index.json"
    path.write_text(json.dumps({"format": 1, "weights": {name: {**entry, **fields}}}))
    model_zoo.add_index(path)
    return entry["sha256"]


def assert_equal_tensors(a, b):
    assert a.keys() == b.keys()
    assert [name for name in a if not torch.equal(a[name], b[name])] == []


def test_other_paths_stay_as_they_are():
    for source in ("a/b.pth", "/x.pth", "torchvision://resnet50", "detectron2://a.pkl", ""):
        assert resolve_weights(source) == source


def test_downloaded_once_into_the_cache(server, content, tmp_path):
    sha256 = add(tmp_path, f"{server.url}/digits_1.pth?download=1", content)
    for _ in range(2):
        path = resolve_weights("smca://team/digits")
        assert path == str(tmp_path / "cache" / sha256[:16] / "digits_1.pth")
    assert len(server.requests) == 1
    assert model_zoo.get_checkpoint_url("team/digits").startswith(server.url)


def test_the_cache_is_where_detectron2_keeps_its_own(server, content, tmp_path, monkeypatch):
    monkeypatch.delenv("SMCA_CACHE")
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path / "fvcore"))
    add(tmp_path, f"{server.url}/w.pth", content)
    assert resolve_weights("smca://team/digits").startswith(str(tmp_path / "fvcore" / "smca"))


@pytest.mark.parametrize("form", ["w.pth", "file://{root}/w.pth"])
def test_files_of_an_index_are_verified_in_place(form, content, tmp_path):
    path = tmp_path / "w.pth"
    path.write_bytes(content)
    add(tmp_path, form.format(root=tmp_path), content)
    assert resolve_weights("smca://team/digits") == str(path)
    path.write_bytes(content[:-1] + b"x")
    with pytest.raises(ValueError, match=r"w\.pth is not the file that the index describes"):
        resolve_weights("smca://team/digits")
    path.unlink()
    with pytest.raises(ValueError, match=r"w\.pth of the index does not exist"):
        resolve_weights("smca://team/digits")


def test_unknown_name():
    with pytest.raises(ValueError, match="no trained weights of 'smca_r50_50ep' are published"):
        resolve_weights("smca://smca_r50_50ep")


def test_a_trained_model(server, model, content, tmp_path):
    add(tmp_path, f"{server.url}/w.pth", content, name=NAME, config=NAME)
    trained = model_zoo.get(NAME, trained=True)
    assert trained.training
    assert_equal_tensors(trained.state_dict(), model.state_dict())


def test_a_trained_model_that_describes_itself(model, tmp_path):
    info = model_info_from_lazy(model_zoo.get_config(NAME))
    torch.save({"model": model.state_dict(), "smca": info.to_json()}, tmp_path / "w.pth")
    add(tmp_path, "w.pth", (tmp_path / "w.pth").read_bytes())
    assert_equal_tensors(
        model_zoo.get("team/digits", trained=True).state_dict(), model.state_dict()
    )


def test_weights_that_do_not_fit_the_named_config(server, content, tmp_path):
    add(tmp_path, f"{server.url}/w.pth", content, config="digits/detr")
    with pytest.raises(ValueError, match=r"does not fit the model of 'team/digits'.*modulation"):
        model_zoo.get("team/digits", trained=True)


def test_weights_of_no_known_model(server, content, tmp_path):
    add(tmp_path, f"{server.url}/w.pth", content)
    with pytest.raises(ValueError, match="does not describe its model"):
        model_zoo.get("team/digits", trained=True)


def test_initial_weights_of_a_training(server, model, content, tmp_path):
    add(tmp_path, f"{server.url}/w.pth", content)
    fresh = model_zoo.get(NAME)
    load_initial_weights(fresh, "smca://team/digits", report=False)
    assert_equal_tensors(fresh.state_dict(), model.state_dict())


def test_initial_weights_that_are_not_published():
    with pytest.raises(ValueError, match="no trained weights of 'none' are published"):
        load_initial_weights(torch.nn.Linear(1, 1), "smca://none")


def test_detectron2s_own_predictor(server, model, content, tmp_path):
    add(tmp_path, f"{server.url}/w.pth", content)
    cfg = model_zoo.get_cfg(NAME, weights="smca://team/digits")
    cfg.MODEL.DEVICE = "cpu"
    assert_equal_tensors(DefaultPredictor(cfg).model.state_dict(), model.state_dict())
    with PathManager.open("smca://team/digits", "rb") as file:
        assert file.read() == content
    assert PathManager.isfile("smca://team/digits")


def test_wrong_weights_end_before_detectron2_opens_them(server, content, tmp_path):
    add(tmp_path, f"{server.url}/w.pth", content)
    server.content = content[:-1] + b"x"
    cfg = model_zoo.get_cfg(NAME, weights="smca://team/digits")
    with pytest.raises(ValueError, match="sha256 is another one"):
        DefaultPredictor(cfg)
