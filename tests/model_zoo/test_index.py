"""Index files: the shipped one, a team's own, and what is wrong with one."""

import json
import os

import pytest

from smca import model_zoo
from smca.model_zoo import index as index_module
from smca.model_zoo.index import ZooEntry, all_entries, find_entry, read_index

ENTRY = {"url": "https://example.org/a/w_0a1b2c3d.pth", "sha256": "0" * 64, "size": 7}


@pytest.fixture(autouse=True)
def _nothing_added(monkeypatch):
    monkeypatch.setattr(index_module, "_added", [])
    monkeypatch.delenv("SMCA_ZOO_INDEX", raising=False)


def write(path, weights, **fields):
    path.write_text(json.dumps({"format": 1, "weights": weights, **fields}))
    return path


def test_the_shipped_index_is_right():
    for name, entry in read_index(index_module._SHIPPED).items():
        assert entry.url.startswith("https://")
        assert entry.licence
        assert entry.config in model_zoo.list_configs(), name


def test_fields(tmp_path):
    full = {**ENTRY, "config": "smca_r50_50ep", "class_names": "coco", "licence": "Apache-2.0",
            "metrics": {"bbox/AP": 43.7}, "training_log": "https://example.org/log.txt"}  # fmt: skip
    entries = read_index(write(tmp_path / "i.json", {"a/b-1": full, "c": ENTRY}))
    assert entries["a/b-1"] == ZooEntry(name="a/b-1", **full)
    assert entries["a/b-1"].to_json() == full
    assert entries["a/b-1"].file_name == "w_0a1b2c3d.pth"
    assert not entries["c"].is_local
    assert entries["c"].metrics == {}


@pytest.mark.parametrize("form", ["w.pth", "sub/w.pth", "{root}/w.pth", "file://{root}/a%20b.pth"])
def test_paths_are_relative_to_the_index(form, tmp_path, monkeypatch):
    monkeypatch.chdir("/")
    url = form.format(root=tmp_path)
    entry = read_index(write(tmp_path / "i.json", {"a": {**ENTRY, "url": url}}))["a"]
    expected = {"w.pth": "w.pth", "sub/w.pth": "sub/w.pth", "{root}/w.pth": "w.pth"}.get(form)
    assert entry.is_local
    assert entry.url == str(tmp_path / (expected or "a b.pth"))
    assert entry.file_name == os.path.basename(entry.url)


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ({"a": {**ENTRY, "sha256": "00"}}, "'a' has sha256 '00'"),
        ({"a": {**ENTRY, "sha256": "G" * 64}}, "sha256"),
        ({"a": {**ENTRY, "size": 0}}, "size 0"),
        ({"a": {**ENTRY, "size": True}}, "size True"),
        ({"a": {**ENTRY, "url": "ftp://x/w.pth"}}, "url"),
        ({"a": {**ENTRY, "url": 3}}, "url 3"),
        ({"a": {**ENTRY, "url": "https://x/w.zip"}}, "names no .pth"),
        ({"a": {**ENTRY, "class_names": "mine"}}, "class_names 'mine'"),
        ({"a": {**ENTRY, "metrics": {"AP": "43"}}}, "metrics"),
        ({"a": {**ENTRY, "license": "MIT"}}, "unknown field 'license'.*licence"),
        ({"a": {"url": "w.pth", "size": 1}}, "has no 'sha256'"),
        ({"a": [1]}, "no json object"),
        ({"../a": ENTRY}, "is no name"),
        ({"/a": ENTRY}, "is no name"),
        ({"": ENTRY}, "is no name"),
    ],
)
def test_an_entry_that_is_not_right(weights, words, tmp_path):
    path = write(tmp_path / "i.json", weights)
    with pytest.raises(ValueError, match=words) as error:
        model_zoo.add_index(path)
    assert str(path) in str(error.value)
    assert "a" not in all_entries()


@pytest.mark.parametrize(
    ("text", "words"),
    [("{", "no json"), ("[]", "is no {"), ('{"weights": {}}', "format None"),
     ('{"weights": {}, "format": 2}', "format 2, this version reads 1"),
     ("[" * 100_000, "no json")],
)  # fmt: skip
def test_a_file_that_is_no_index(text, words, tmp_path):
    (tmp_path / "i.json").write_text(text)
    with pytest.raises(ValueError, match=words):
        model_zoo.add_index(tmp_path / "i.json")


def test_a_missing_index(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"none\.json cannot be read"):
        model_zoo.add_index(tmp_path / "none.json")
    monkeypatch.setenv("SMCA_ZOO_INDEX", str(tmp_path / "none.json"))
    with pytest.raises(ValueError, match=r"none\.json cannot be read"):
        all_entries()


def test_the_last_index_counts(tmp_path, monkeypatch):
    files = [
        write(tmp_path / f"{i}.json", {"a": {**ENTRY, "size": i}, f"only{i}": ENTRY})
        for i in (1, 2, 3)
    ]
    monkeypatch.setenv("SMCA_ZOO_INDEX", os.pathsep.join(map(str, files[:2])))
    assert all_entries()["a"].size == 2
    model_zoo.add_index(files[2])
    assert all_entries()["a"].size == 3
    assert {"only1", "only2", "only3"} <= set(all_entries())


def test_names_that_are_not_published(tmp_path):
    model_zoo.add_index(write(tmp_path / "i.json", {"team/forklifts": ENTRY}))
    assert model_zoo.get_checkpoint_url("team/forklifts") == ENTRY["url"]
    for ask in (find_entry, model_zoo.get_checkpoint_url):
        with pytest.raises(ValueError, match=r"did you mean team/forklifts\?"):
            ask("team/forklift")
    with pytest.raises(ValueError, match=r"no trained weights of 'smca_r50_50ep' are published"):
        model_zoo.get_checkpoint_url("smca_r50_50ep")
    with pytest.raises(ValueError, match="no config named 'smca_r50_50epp'"):
        model_zoo.get("smca_r50_50epp", trained=True)
