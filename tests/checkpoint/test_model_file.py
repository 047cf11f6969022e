"""Reading checkpoint files with their description: formats, foreign files, damaged files, malicious files."""

import argparse
import dataclasses
import json
import os
import pickle
import zipfile
from collections import Counter, OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import save_file
from torch import nn

from smca import model_zoo
from smca.checkpoint import ModelInfo, model_info_from_lazy, read_model_file

STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.count": torch.tensor(3)}
INFO = ModelInfo(
    model={"_target_": "smca.modeling.SMCA"},
    class_names=("cat", "dog ü"),
    class_ids=(7, 3),
    min_size_test=480,
    config_name="custom",
    metrics={"bbox/AP": 12.5},
    versions={"smca": "0.1.0"},
)


def write_pth(path: Path) -> None:
    torch.save({"model": STATE, "smca": INFO.to_json()}, path)


def write_old_pth(path: Path) -> None:
    torch.save({"model": STATE, "smca": INFO.to_json()}, path, _use_new_zipfile_serialization=False)


def write_safetensors(path: Path) -> None:
    save_file(STATE, path, metadata={"smca": INFO.to_json()})


def write_pkl(path: Path) -> None:
    arrays = {name: tensor.numpy() for name, tensor in STATE.items()}
    path.write_bytes(
        pickle.dumps({"model": arrays, "__author__": "someone", "smca": INFO.to_json()})
    )


FORMATS = [
    ("w.pth", write_pth),
    ("w.pt", write_old_pth),
    ("w.safetensors", write_safetensors),
    ("w.pkl", write_pkl),
]


def assert_equal_tensors(a, b):
    assert a.keys() == b.keys()
    assert [name for name in a if not torch.equal(a[name], b[name])] == []
    assert {n: t.dtype for n, t in a.items()} == {n: t.dtype for n, t in b.items()}


@pytest.mark.parametrize(("name", "write"), FORMATS)
def test_formats(name, write, tmp_path):
    path = tmp_path / name
    write(path)
    file = read_model_file(path)
    assert_equal_tensors(file.state_dict, STATE)
    assert file.info == INFO
    assert (file.path, file.ema) == (str(path), None)
    assert file.best_state_dict is file.state_dict


def test_moving_averages_of_a_training(tmp_path):
    averages = {name: tensor + 1 for name, tensor in STATE.items()}
    content = {"model": STATE, "ema": {"model": averages, "decay": 0.9}, "iteration": 7}
    torch.save(content, tmp_path / "w.pth")
    file = read_model_file(tmp_path / "w.pth")
    assert_equal_tensors(file.state_dict, STATE)
    assert_equal_tensors(file.best_state_dict, averages)
    assert file.info is None


@pytest.mark.parametrize("key", ["model", "state_dict", "model_state", None])
def test_where_others_keep_the_tensors(key, tmp_path):
    wrapped = {f"module.{name}": tensor for name, tensor in STATE.items()}
    torch.save({key: wrapped, "epoch": 3} if key else wrapped, tmp_path / "w.pth")
    file = read_model_file(tmp_path / "w.pth")
    assert_equal_tensors(file.state_dict, STATE)
    assert file.info is None


def test_pickle_of_caffe2(tmp_path):
    blobs = {"conv1_w": np.ones((2, 2), np.float32), "conv1_w_momentum": np.zeros(1)}
    for content in ({"blobs": blobs, "cfg": "MODEL:"}, blobs):
        (tmp_path / "w.pkl").write_bytes(pickle.dumps(content, protocol=2))
        file = read_model_file(tmp_path / "w.pkl")
        assert_equal_tensors(file.state_dict, {"conv1_w": torch.ones(2, 2)})
        assert (file.author, file.matching_heuristics) == ("Caffe2", True)


def test_pickle_of_detectron2(tmp_path):
    arrays = {"a": np.arange(3, dtype=">f4")}
    content = {"model": arrays, "__author__": "Detectron2 Model Zoo", "matching_heuristics": True}
    (tmp_path / "w.pkl").write_bytes(pickle.dumps(content))
    file = read_model_file(tmp_path / "w.pkl")
    assert_equal_tensors(file.state_dict, {"a": torch.arange(3.0)})
    assert (file.author, file.matching_heuristics) == ("Detectron2 Model Zoo", True)


class Evil:
    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        return os.system, (f"touch {self.canary}",)


MALICIOUS = {
    "pth": lambda path, evil: torch.save({"model": STATE, "smca": evil}, path),
    "old.pth": lambda path, evil: torch.save(
        {"model": STATE, "x": evil}, path, _use_new_zipfile_serialization=False
    ),
    "bare.pth": lambda path, evil: path.write_bytes(pickle.dumps(evil)),
    "pkl": lambda path, evil: path.write_bytes(pickle.dumps({"model": {}, "__author__": evil})),
    "pyth": lambda path, evil: torch.save({"model_state": evil}, path),
    "pickle.safetensors": lambda path, evil: path.write_bytes(pickle.dumps(evil)),
}


@pytest.mark.parametrize("name", MALICIOUS)
def test_a_file_that_would_run_code(name, tmp_path):
    path, canary = tmp_path / f"bad.{name}", tmp_path / "canary"
    MALICIOUS[name](path, Evil(canary))
    with pytest.raises(ValueError, match="cannot be read") as error:
        read_model_file(path)
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)
    assert not canary.exists()


BROKEN = {
    "zeros.pth": (bytes(4096), "begins with zeros"),
    "zeros.pkl": (bytes(4096), "begins with zeros"),
    "empty.pth": (b"", "is empty"),
    "empty.pkl": (b"", "is empty"),
    "empty.safetensors": (b"", "is empty"),
    "page.pth": (b"\n<!DOCTYPE html><html><head>404", "web page"),
    "pointer.pkl": (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "git lfs pull"),
    "text.pth": (b"hello world\n" * 20, "no file of torch.save"),
    "text.pkl": (b"hello world\n" * 20, "no pickle of numpy arrays"),
    "text.safetensors": (b"hello world\n" * 20, "cut off or damaged"),
    "number.pkl": (pickle.dumps(3), "holds no state dict"),
    "strings.pkl": (pickle.dumps({"model": {"a": "b"}, "__author__": "x"}), "holds no state dict"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_checkpoint_is_one_sentence(name, tmp_path):
    data, words = BROKEN[name]
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ValueError, match=words) as error:
        read_model_file(tmp_path / name)
    assert str(tmp_path / name) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("suffix", [".pth", ".pkl", ".safetensors"])
def test_missing_file_and_folder(suffix, tmp_path):
    with pytest.raises(ValueError, match="does not exist"):
        read_model_file(tmp_path / f"none{suffix}")
    (tmp_path / f"folder{suffix}").mkdir()
    with pytest.raises(ValueError, match="is a folder"):
        read_model_file(tmp_path / f"folder{suffix}")


@pytest.mark.parametrize(("name", "write"), FORMATS)
@pytest.mark.parametrize("share", [0.02, 0.5, 0.9, 0.999])
def test_cut_short(name, write, share, tmp_path):
    path = tmp_path / name
    write(path)
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(ValueError, match="cut off") as error:
        read_model_file(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("name", "write"), FORMATS)
def test_damaged_bytes_end_in_one_sentence(name, write, tmp_path):
    path = tmp_path / name
    write(path)
    data, random, messages = path.read_bytes(), np.random.RandomState(0), []
    for trial in range(120):
        damaged = bytearray(data)
        start, length = random.randint(len(data)), random.randint(1, 200)
        if trial % 2:
            damaged[start : start + length] = bytes(len(damaged[start : start + length]))
        else:
            for position in random.randint(len(data), size=4):
                damaged[position] = random.randint(256)
        path.write_bytes(damaged)
        try:
            read_model_file(path)
        except ValueError as error:
            messages.append(str(error))
    assert len(messages) > 60
    assert all(str(path) in message and "\n" not in message for message in messages)


def test_a_torch_file_named_pkl(tmp_path):
    for old in (False, True):
        torch.save(STATE, tmp_path / "w.pkl", _use_new_zipfile_serialization=not old)
        with pytest.raises(ValueError, match=r"name it \.pth"):
            read_model_file(tmp_path / "w.pkl")


def test_a_whole_module_is_not_loaded(tmp_path):
    torch.save(nn.Linear(2, 2), tmp_path / "w.pth")
    with pytest.raises(ValueError, match=r"more than tensors.*Linear"):
        read_model_file(tmp_path / "w.pth")


def test_torchscript_is_not_loaded(tmp_path):
    path = tmp_path / "w.pth"
    torch.jit.script(nn.Linear(2, 2)).save(str(path))
    with pytest.raises(ValueError, match=r"w\.pth cannot be read as a checkpoint") as error:
        read_model_file(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "no json"),
        ("[" * 100_000, "no json"),
        ("[1]", "no json object"),
        ("{}", "no 'model'"),
        ('{"model": "os.system"}', "no 'model'"),
        ('{"model": {}, "class_names": "cat"}', "class_names"),
        ('{"model": {}, "max_size_test": 1000000000}', "max_size_test"),
        ('{"model": {}, "min_size_test": 0}', "min_size_test"),
        ('{"model": {}, "class_ids": 3}', "class_ids 3"),
        ('{"model": {}, "class_ids": [1]}', "class_ids"),
        (
            '{"model": {"num_classes": 2}, "class_names": ["a"], "class_ids": [1]}',
            "an id for each class",
        ),
        ('{"model": {}, "class_names": ["a", "b"], "class_ids": [1, 1]}', "class_ids"),
        ('{"model": {}, "class_names": ["a", "b"], "class_ids": [1, "2"]}', "class_ids"),
        ('{"model": {}, "class_names": ["a", "b"], "class_ids": [true, 0]}', "class_ids"),
        ('{"model": {}, "class_names": ["a", "b"], "class_ids": [1, 1e400]}', "class_ids"),
        (
            '{"model": {}, "class_names": ["a", "b"], "class_ids": [1, 9007199254740993]}',
            "class_ids",
        ),
        ('{"model": {}, "class_names": ["a", "b"], "class_ids": ["x", "\\u001b[2J"]}', "class_ids"),
        (7, "no json"),
    ],
)
def test_unreadable_description(text, words, tmp_path):
    torch.save({"model": STATE, "smca": text}, tmp_path / "w.pth")
    with pytest.raises(ValueError, match=words) as error:
        read_model_file(tmp_path / "w.pth")
    assert "w.pth" in str(error.value)


@pytest.mark.parametrize(
    ("ids", "kept"),
    [
        ([7, 3], (7, 3)),
        (["a", "b"], ("a", "b")),
        ([1], ()),
        ([1, 1 << 60], ()),
        (["a", "b" * 101], ()),
        (["a", "b\n"], ()),
    ],
)
def test_only_ids_that_can_be_read_again_are_described(ids, kept):
    lazy = OmegaConf.create({"model": {"_target_": "smca.modeling.SMCA", "num_classes": 2}})
    info = model_info_from_lazy(lazy, class_names=["cat", "dog"], class_ids=ids)
    assert info.class_ids == kept
    assert ModelInfo.from_json(info.to_json()).class_ids == kept
    lazy.model.num_classes = 91
    assert model_info_from_lazy(lazy, class_names=["cat", "dog"], class_ids=ids).class_ids == ()


def test_description_of_a_later_version(tmp_path):
    text = INFO.to_json()[:-1] + ', "licence": "MIT"}'
    torch.save({"model": STATE, "smca": text}, tmp_path / "w.pth")
    assert read_model_file(tmp_path / "w.pth").info == INFO


def test_description_survives_json():
    assert ModelInfo.from_json(INFO.to_json()) == INFO
    assert dataclasses.replace(INFO, class_names=()) != INFO


def test_flipped_bits_in_the_values_are_noticed(tmp_path):
    """PyTorch reads them without a word."""
    path = tmp_path / "w.pth"
    torch.save({"w": torch.arange(10_000.0)}, path)
    data = bytearray(path.read_bytes())
    position = data.index(torch.arange(10_000.0)[5000:5010].numpy().tobytes())
    data[position + 1] ^= 1
    path.write_bytes(data)
    assert torch.load(path, weights_only=True)["w"].shape == (10_000,)
    with pytest.raises(
        ValueError, match=r"w.pth .* it is damaged: the checksum of its part .*data/0"
    ):
        read_model_file(path)


def test_a_compressed_archive_is_refused_unread(tmp_path):
    torch.save({"w": torch.zeros(1_000_000)}, tmp_path / "whole.pth")
    with (
        zipfile.ZipFile(tmp_path / "whole.pth") as whole,
        zipfile.ZipFile(tmp_path / "w.pth", "w", zipfile.ZIP_DEFLATED) as small,
    ):
        for part in whole.namelist():
            small.writestr(part, whole.read(part))
    assert (tmp_path / "w.pth").stat().st_size < 20_000
    with pytest.raises(ValueError, match="parts of it are compressed"):
        read_model_file(tmp_path / "w.pth")


@pytest.mark.parametrize(
    ("name", "tensor", "words"),
    [
        ("w", torch.zeros(1).expand(10**9), "claims more values than the file holds"),
        ("w", torch.zeros(2, 2).to_sparse(), "is not dense"),
        ("w", torch.zeros(2, device="meta"), "no values"),
        ("w", torch.quantize_per_tensor(torch.zeros(2), 0.1, 0, torch.qint8), "is quantised"),
        (
            "\x1b[31mw\n",
            torch.zeros(2),
            r"tensor \\x1b\[31mw\\n has a name with control characters",
        ),
    ],
)
def test_tensors_that_no_model_has(tmp_path, name, tensor, words):
    torch.save({name: tensor}, tmp_path / "w.pth")
    with pytest.raises(ValueError, match=words) as error:
        read_model_file(tmp_path / "w.pth")
    assert str(error.value).isprintable()


@pytest.mark.parametrize(
    "dtype", [torch.float8_e4m3fn, torch.complex64, torch.uint16, torch.uint64, torch.bits8]
)
def test_values_that_no_model_has(tmp_path, dtype):
    """Of some PyTorch cannot say whether they are finite, and complex NaN would pass for whole numbers."""
    tensor = torch.zeros(4, dtype=torch.uint8).view(torch.uint8)
    tensor = tensor.view(dtype) if dtype in (torch.bits8, torch.float8_e4m3fn) else tensor.to(dtype)
    torch.save({"w": tensor}, tmp_path / "w.pth")
    with pytest.raises(ValueError, match=r"the tensor w holds .* values, which no model here has"):
        read_model_file(tmp_path / "w.pth")


def test_tensors_that_lie_in_the_same_bytes(tmp_path):
    """A file of 8 MB must not fill a model of gigabytes; heads that layers share are stored under some names."""
    base = torch.zeros(2_000_000)
    torch.save({str(i): base[i : i + 1_999_000] for i in range(40)}, tmp_path / "w.pth")
    assert (tmp_path / "w.pth").stat().st_size < 9_000_000
    with pytest.raises(ValueError, match="claim several times the values that it holds"):
        read_model_file(tmp_path / "w.pth")
    head = torch.zeros(100, 100)
    torch.save({f"heads.{i}.weight": head for i in range(7)}, tmp_path / "shared.pth")
    assert len(read_model_file(tmp_path / "shared.pth").state_dict) == 7


def test_only_a_wrapper_of_all_names_is_taken_off(tmp_path):
    torch.save({"module.a": torch.zeros(1), "b": torch.zeros(1)}, tmp_path / "w.pth")
    assert set(read_model_file(tmp_path / "w.pth").state_dict) == {"module.a", "b"}


def test_what_a_program_in_an_archive_would_call_is_said(tmp_path):
    class Call:
        def __reduce__(self):
            return os.system, ("true",)

    torch.save({"w": Call()}, tmp_path / "w.pth")
    with pytest.raises(ValueError, match=r"more than tensors \(.*posix.system"):
        read_model_file(tmp_path / "w.pth")


def test_what_a_description_says_is_printable_and_finite(tmp_path):
    info = {"model": {}, "class_names": ["\x1b[2Jcat\n"], "metrics": {"bbox/AP": 10**400, "a": 1.0}}
    found = ModelInfo.from_json(json.dumps(info))
    assert found.class_names == (r"\x1b[2Jcat\n",)
    assert found.metrics == {"a": 1.0}


class Made:
    """Something that is pickled as a call; it is not hashed when it is written."""

    def __init__(self, kind, items):
        self.kind, self.items = kind, items

    def __reduce__(self):
        return self.kind, (self.items,)


def nested_tuples(depth):
    value = ()
    for _ in range(depth):
        value = (value, value)
    return value


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    ("kind", "make"),
    [
        (OrderedDict, lambda key: [(key, 1)]),
        (Counter, lambda key: [("a", key)]),
        (set, lambda key: [("a", key)]),
    ],
)
def test_keys_that_take_for_ever_to_hash(tmp_path, zipped, kind, make):
    """Each tuple holds the one before twice: hashing the last takes 2^60 steps."""
    content = {"model": {"w": torch.zeros(1)}, "x": Made(kind, make(nested_tuples(60)))}
    torch.save(content, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    assert (tmp_path / "w.pth").stat().st_size < 20_000
    with pytest.raises(ValueError, match="tuple for a key, not a name"):
        read_model_file(tmp_path / "w.pth")


@pytest.mark.parametrize("zipped", [True, False])
def test_containers_that_others_store_beside_the_weights(tmp_path, zipped):
    content = {
        "model": {"w": torch.ones(1)},
        "optimizer": {"state": {0: {"step": torch.tensor(1.0)}}, "param_groups": [{"lr": 0.1}]},
        "counts": Counter("aab"),
        "names": {"a", "b"},
        "args": argparse.Namespace(lr=0.1, sizes=[(1, 2), (3, 4)]),
        "nested": OrderedDict(a=({"b": (1, (2,))},)),
    }
    torch.save(content, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    assert torch.equal(read_model_file(tmp_path / "w.pth").state_dict["w"], torch.ones(1))


# A key that takes for ever to hash, each tuple the one before twice.
ENDLESS = (
    b"}"
    + b")"
    + b"".join(b"q" + bytes([k]) + b"h" + bytes([k]) + b"\x86" for k in range(60))
    + b"Ns."
)


@pytest.mark.parametrize("protocol", [b"\x80\x02", b"\x80\x09"])
@pytest.mark.parametrize("name", ["data.pkl", "DATA.PKL", "Data.pkl"])
def test_what_pytorch_would_read_is_what_is_looked_at(tmp_path, protocol, name):
    """PyTorch's reader knows no capitals, and goes on where a pickle says a protocol that does not exist."""
    with zipfile.ZipFile(tmp_path / "w.pth", "w") as archive:
        archive.writestr(f"archive/{name}", protocol + ENDLESS)
        archive.writestr("archive/version", "3\n")
    with pytest.raises(ValueError, match="cannot be read as a checkpoint"):
        read_model_file(tmp_path / "w.pth")


def test_two_parts_of_one_name(tmp_path):
    torch.save({"w": torch.zeros(1)}, tmp_path / "w.pth")
    with zipfile.ZipFile(tmp_path / "w.pth", "a") as archive:
        archive.writestr("w/DATA.pkl", b"\x80\x02" + ENDLESS)
    with pytest.raises(ValueError, match=r"one part data\.pkl"):
        read_model_file(tmp_path / "w.pth")


@pytest.mark.parametrize("protocol", [b"\x80\x02", b"\x80\x09"])
def test_the_old_format_is_looked_at_whatever_protocol_it_says(tmp_path, protocol):
    head = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}]
    content = b"".join(pickle.dumps(part, 2) for part in head) + protocol + ENDLESS
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(ValueError, match="cannot be read as a checkpoint"):
        read_model_file(tmp_path / "w.pth")


def test_test_sizes_of_a_mapper_that_wraps_another():
    lazy = model_zoo.get_config("digits/smca_single_scale")
    expected = lazy.dataloader.test.mapper.augmentations[0].short_edge_length
    lazy.dataloader.test.mapper = {"mapper": {"mapper": lazy.dataloader.test.mapper}}
    info = model_info_from_lazy(lazy)
    assert (info.min_size_test, info.max_size_test) == (expected, expected) != (800, 800)
