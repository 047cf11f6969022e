"""One function that starts the processes of a training, whatever device they use and whoever started this one.

Detectron2 0.6's launcher needs CUDA, and neither release knows torchrun; the collectives of
``detectron2.utils.comm`` work with the groups made here.
"""

import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from datetime import timedelta

import torch
import torch.multiprocessing as mp
from detectron2.utils import comm
from torch import distributed

TORCHRUN_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
FORWARDED_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
# Rank 0 may evaluate, download or save for long while the others wait.
TIMEOUT = timedelta(hours=2)


def launch(
    main: Callable[..., None],
    *,
    args: tuple,
    device: str,
    num_processes: int = 1,
    num_machines: int = 1,
    machine_rank: int = 0,
    dist_url: str = "auto",
) -> None:
    """Run ``main(*args)`` in every process of a training; returns when all have.

    Under torchrun (or anything else that sets its variables) this process already is one of them, and
    the numbers given here are not used.

    Args:
        main: a function of a module, so that a new process can import it.
        args: its arguments, picklable.
        device: "cuda", one GPU per process and NCCL, or "cpu", gloo.
        num_processes: on this machine.
        num_machines, machine_rank: of how many machines this is which.
        dist_url: "tcp://host:port" of machine 0, or "auto" for a free port of the only machine.

    Raises:
        ValueError: if there are fewer GPUs than processes, or the numbers do not fit each other.
        SystemExit: with the exit status of a process that failed; it has said why.
    """
    if all(name in os.environ for name in TORCHRUN_VARIABLES):
        rank, world, local_rank, local_world = _torchrun_numbers()
        _check_gpus(device, local_world)
        _join(device, "env://", rank, world, local_rank, local_world)
        _run_and_leave(main, args)
        return
    _check_numbers(num_processes, num_machines, machine_rank, dist_url)
    _check_gpus(device, num_processes)
    world = num_processes * num_machines
    if world == 1:
        main(*args)
        return
    if dist_url == "auto":
        dist_url = f"tcp://127.0.0.1:{_free_port()}"
    context = mp.start_processes(
        _worker,
        args=(main, args, device, dist_url, num_processes, world, machine_rank),
        nprocs=num_processes,
        join=False,
        start_method="spawn",
    )
    _wait(context)


def _torchrun_numbers() -> list[int]:
    given = {name: os.environ[name] for name in TORCHRUN_VARIABLES}
    try:
        numbers = rank, world, local_rank, local_world = [int(value) for value in given.values()]
    except ValueError:
        numbers = []
    if not numbers or not (0 <= rank < world and 0 <= local_rank < local_world <= world):
        described = ", ".join(f"{name}={value}" for name, value in given.items())
        raise ValueError(
            f"torchrun's variables {described} fit no training; start it with torchrun, or unset them"
        )
    return numbers


def _worker(
    local_rank: int,
    main: Callable[..., None],
    args: tuple,
    device: str,
    dist_url: str,
    num_processes: int,
    world: int,
    machine_rank: int,
) -> None:
    rank = machine_rank * num_processes + local_rank
    _join(device, dist_url, rank, world, local_rank, num_processes)
    _run_and_leave(main, args)


def _join(device: str, url: str, rank: int, world: int, local_rank: int, local_world: int) -> None:
    """Make the groups of all processes and of this machine's."""
    backend = "gloo"
    if device.startswith("cuda"):
        backend = "nccl"
        torch.cuda.set_device(local_rank)
    elif "OMP_NUM_THREADS" not in os.environ:
        # Or every process takes all cores, and they wait for each other.
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // local_world))
    distributed.init_process_group(
        backend, init_method=url, rank=rank, world_size=world, timeout=TIMEOUT
    )
    for first in range(0, world, local_world):
        group = distributed.new_group(list(range(first, first + local_world)))
        if first <= rank < first + local_world:
            # Detectron2 0.6 has no function for this; the name is the same in its main branch.
            comm._LOCAL_PROCESS_GROUP = group
    comm.synchronize()


def _run_and_leave(main: Callable[..., None], args: tuple) -> None:
    try:
        main(*args)
    finally:
        # Not after an exception of this rank alone: waiting for the others to leave could take for ever.
        if sys.exc_info()[0] is None:
            comm.synchronize()
            distributed.destroy_process_group()
        comm._LOCAL_PROCESS_GROUP = None


def _wait(context: mp.ProcessContext) -> None:
    """Wait for all processes, and hand a scheduler's signals on to them."""

    def forward(signum: int, _frame) -> None:
        for process in context.processes:
            if process.is_alive():
                os.kill(process.pid, signum)

    before = {signum: signal.signal(signum, forward) for signum in FORWARDED_SIGNALS}
    # A terminal's Ctrl-C reaches the processes by itself; this one only waits for them.
    before[signal.SIGINT] = signal.signal(signal.SIGINT, lambda *_: None)
    # Its lines about the processes it ends would hide why the first one ended.
    logging.getLogger("torch.multiprocessing.spawn").setLevel(logging.ERROR)
    try:
        while not context.join():
            time.sleep(0.1)
    except mp.ProcessExitedException as error:
        sys.exit(error.exit_code if error.exit_code > 0 else 128 - error.exit_code)
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def _check_numbers(num_processes: int, num_machines: int, machine_rank: int, dist_url: str) -> None:
    if num_processes < 1 or num_machines < 1:
        raise ValueError(
            f"--num-gpus {num_processes} and --num-machines {num_machines} must be at least 1"
        )
    if not 0 <= machine_rank < num_machines:
        raise ValueError(
            f"--machine-rank {machine_rank} must be between 0 and --num-machines - 1 = {num_machines - 1}"
        )
    if num_machines > 1 and not dist_url.startswith("tcp://"):
        raise ValueError(
            f"--dist-url {dist_url}: several machines need the address of machine 0, such as tcp://10.0.0.1:29500"
        )


def _check_gpus(device: str, wanted: int) -> None:
    if device.startswith("cuda") and wanted > torch.cuda.device_count():
        raise ValueError(
            f"--num-gpus {wanted}, but PyTorch sees {torch.cuda.device_count()} GPUs on this machine"
        )


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]
