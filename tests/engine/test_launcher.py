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
    monkeypatch.setattr(launcher, "_run_processes", lambda *arguments: started.append(arguments))
    start(num_processes=2)
    start(num_processes=3, num_machines=2, machine_rank=1, dist_url="tcp://10.0.0.1:29500")
    first, second = started
    assert (first[2], first[4]) == ("cpu", [(0, 0, 2, 2), (1, 1, 2, 2)])
    host, port = first[3].removeprefix("tcp://").split(":")
    with socket.socket() as free:
        free.bind((host, int(port)))
    assert second[3] == "tcp://10.0.0.1:29500"
    assert second[4] == [(0, 3, 3, 6), (1, 4, 3, 6), (2, 5, 3, 6)]


@pytest.mark.parametrize(
    ("exits", "reports", "said", "status"),
    [
        ([(0, 0), (1, 0)], [], "", 0),
        # Stopped by a signal, as they said themselves.
        ([(0, 143), (1, 143)], [], "", 143),
        # The main process tells for all.
        ([(0, 1), (1, 1)], [(0, "no data", False)], "no data\n", 1),
        # The first that fails has the cause; the others miss it.
        (
            [(0, 1), (1, 1)],
            [(0, "gone", True), (1, "x.jpg is damaged", False)],
            "rank 1: x.jpg is damaged\n",
            1,
        ),
        (
            [(0, 1), (1, -9)],
            [(0, "gone", True)],
            "the process of rank 1 was ended by SIGKILL, perhaps for lack of memory\n",
            137,
        ),
        ([(0, -15), (1, -15)], [], "the process of rank 0 was ended by SIGTERM\n", 143),
        # Of several machines: the cause is on another one.
        ([(2, 1), (3, 1)], [(2, "gone", True), (3, "gone", True)], "rank 2: gone\n", 1),
    ],
)
def test_what_is_said_of_processes_that_failed(exits, reports, said, status, capsys):
    assert launcher._explain(exits, reports) == status
    assert capsys.readouterr().err == said


class FakeProcess:
    pid = 12345

    def is_alive(self):
        return True


def test_an_interrupt_of_the_launcher_alone_reaches_its_processes(monkeypatch):
    sent = []
    monkeypatch.setattr(launcher.os, "kill", lambda pid, signum: sent.append((pid, signum)))
    signums = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
    before = [signal.getsignal(signum) for signum in signums]
    forwarding = launcher._Forwarding([FakeProcess()])
    with forwarding:
        signal.raise_signal(signal.SIGUSR1)
        assert sent == [(12345, signal.SIGUSR1)]
        signal.raise_signal(signal.SIGINT)
        # A terminal's would have reached them by now.
        forwarding.pass_on_late()
        assert len(sent) == 1
        now = launcher.time.monotonic()
        monkeypatch.setattr(launcher.time, "monotonic", lambda: now + 1)
        forwarding.pass_on_late()
        forwarding.pass_on_late()
        assert sent[1:] == [(12345, signal.SIGTERM)]
    assert forwarding.status == 130
    assert [signal.getsignal(signum) for signum in signums] == before
