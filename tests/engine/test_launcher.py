"""How many processes, and which one this is; what several do together is tested in test_distributed.py."""

import signal
import socket

import pytest
import torch

from smca.engine import launch, launcher

GIVEN = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4"}


@pytest.fixture(autouse=True)
def _no_torchrun(monkeypatch):
    for name in launcher.TORCHRUN_VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def joined(monkeypatch):
    """Instead of making process groups: what they would be made of."""
    calls = []
    monkeypatch.setattr(launcher, "_join", lambda *args: calls.append(args))
    monkeypatch.setattr(launcher, "_run_and_leave", lambda main, args: main(*args))
    return calls


def start(**options):
    called = []
    launch(called.append, args=("argument",), device=options.pop("device", "cpu"), **options)
    return called


def test_one_process_is_this_one(joined):
    assert start() == ["argument"]
    assert joined == []


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"num_processes": 0}, r"--num-gpus 0 and --num-machines 1 must be at least 1"),
        ({"num_processes": -2}, r"--num-gpus -2 and"),
        ({"num_machines": 0}, r"--num-machines 0 must be at least 1"),
        ({"machine_rank": 1}, r"--machine-rank 1 must be between 0 and .* = 0"),
        ({"num_machines": 2, "machine_rank": -1}, r"--machine-rank -1 must be between"),
        ({"num_machines": 2, "machine_rank": 2}, r"--machine-rank 2 must be between .* = 1"),
        ({"num_machines": 2}, r"--dist-url auto: several machines need the address"),
        (
            {"num_machines": 2, "dist_url": "10.0.0.1:29500"},
            r"--dist-url 10\.0\.0\.1:29500: several",
        ),
    ],
)
def test_numbers_that_do_not_fit(numbers, message, joined):
    with pytest.raises(ValueError, match=message) as caught:
        start(**numbers)
    assert "\n" not in str(caught.value)
    assert joined == []


@pytest.mark.parametrize("available", [0, 2])
def test_more_processes_than_gpus(available, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: available)
    with pytest.raises(ValueError, match=f"--num-gpus 3, but PyTorch sees {available} GPUs"):
        start(device="cuda", num_processes=3)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_torchrun_says_which_process_this_is(joined, monkeypatch, device):
    for name, value in GIVEN.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    # Its numbers count, not those of the command line.
    assert start(device=device, num_processes=99) == ["argument"]
    assert joined == [(device, "env://", 5, 8, 1, 4)]


def test_torchrun_on_a_machine_with_too_few_gpus(joined, monkeypatch):
    for name, value in GIVEN.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    with pytest.raises(ValueError, match="--num-gpus 4, but PyTorch sees 3 GPUs"):
        start(device="cuda")


@pytest.mark.parametrize("missing", GIVEN)
def test_some_of_the_variables_are_not_torchrun(joined, monkeypatch, missing):
    for name, value in GIVEN.items():
        if name != missing:
            monkeypatch.setenv(name, value)
    assert start() == ["argument"]
    assert joined == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RANK", "first"), ("RANK", "8"), ("RANK", "-1"), ("WORLD_SIZE", ""), ("WORLD_SIZE", "0"),
        ("LOCAL_RANK", "4"), ("LOCAL_WORLD_SIZE", "9"),
    ],
)  # fmt: skip
def test_variables_that_fit_no_training(joined, monkeypatch, name, value):
    for key, number in (GIVEN | {name: value}).items():
        monkeypatch.setenv(key, number)
    with pytest.raises(ValueError, match=rf"torchrun's variables .*{name}={value}\b") as caught:
        start()
    assert "\n" not in str(caught.value)
    assert joined == []


def test_processes_of_one_machine_get_a_free_port(monkeypatch):
    started = []
    monkeypatch.setattr(launcher.mp, "start_processes", lambda *a, **kw: started.append((a, kw)))
    monkeypatch.setattr(launcher, "_wait", lambda context: None)
    start(num_processes=2)
    start(num_processes=3, num_machines=2, machine_rank=1, dist_url="tcp://10.0.0.1:29500")
    ((_, first), (_, second)) = started
    (_, _, device, url, processes, world, rank) = first["args"]
    assert (device, processes, world, rank) == ("cpu", 2, 2, 0)
    host, port = url.removeprefix("tcp://").split(":")
    with socket.socket() as free:
        free.bind((host, int(port)))
    assert second["args"][3:] == ("tcp://10.0.0.1:29500", 3, 6, 1)
    assert (second["nprocs"], second["start_method"]) == (3, "spawn")


class FakeContext:
    """Processes that have ended one way or another."""

    def __init__(self, error=None):
        self.error = error
        self.processes = []

    def join(self):
        if self.error is not None:
            raise self.error
        return True


@pytest.mark.parametrize(("exit_code", "status"), [(1, 1), (143, 143), (-9, 137), (-15, 143)])
def test_the_exit_status_is_that_of_the_process_that_failed(exit_code, status):
    error = launcher.mp.ProcessExitedException(
        "failed", error_index=0, error_pid=1, exit_code=exit_code
    )
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as stopped:
        launcher._wait(FakeContext(error))
    assert stopped.value.code == status
    assert signal.getsignal(signal.SIGTERM) == before


def test_handlers_of_before_are_back_after_a_wait():
    signums = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
    before = [signal.getsignal(signum) for signum in signums]
    launcher._wait(FakeContext())
    assert [signal.getsignal(signum) for signum in signums] == before
