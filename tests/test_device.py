import pytest
import torch

from smca.device import find_device


@pytest.mark.parametrize(
    ("device", "count", "expected"),
    [
        ("auto", 0, "cpu"),
        ("auto", 1, "cuda"),
        ("cpu", 1, "cpu"),
        ("cuda", 1, "cuda"),
        ("cuda:1", 2, "cuda:1"),
    ],
)
def test_devices(monkeypatch, device, count, expected):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    assert find_device(device) == torch.device(expected)


@pytest.mark.parametrize(
    ("device", "count", "seen"),
    [
        ("cuda", 0, "no CUDA device;"),
        ("cuda:1", 1, "1 CUDA device;"),
        ("cuda:2", 2, "2 CUDA devices;"),
    ],
)
def test_a_device_that_is_not_there(monkeypatch, device, count, seen):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    with pytest.raises(ValueError, match=f"train.device={device}, but PyTorch sees {seen}"):
        find_device(device, option="train.device")


def test_a_device_that_does_not_exist():
    with pytest.raises(
        ValueError, match="--device 'gpu' is unknown; use auto, cpu, cuda or cuda:N"
    ):
        find_device("gpu", option="--device")


@pytest.mark.parametrize("device", ["meta", "cpu:7", "vulkan"])
def test_a_kind_that_is_not_there(device):
    with pytest.raises(ValueError, match=f"--device={device}, but PyTorch sees no such device"):
        find_device(device, option="--device")


@pytest.mark.parametrize("count", [0, 1])
def test_mps_where_there_is_one(monkeypatch, count):
    monkeypatch.setattr(torch.mps, "device_count", lambda: count)
    if count:
        assert find_device("mps") == torch.device("mps")
        return
    with pytest.raises(ValueError, match="use device=cpu"):
        find_device("mps")
