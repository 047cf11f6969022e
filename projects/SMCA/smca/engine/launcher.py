"""One function that starts the processes of a training, whatever device they use and whoever started this one.

Detectron2 0.6's launcher needs CUDA, and neither release knows torchrun; the collectives of
``detectron2.utils.comm`` work with the groups made here.
"""

import logging
import multiprocessing
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from datetime import timedelta
from multiprocessing import connection, util

import torch
from detectron2.utils import comm
from torch import distributed

from smca.errors import InputError
from smca.main_process import as_lost_process

TORCHRUN_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
FORWARDED_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
# Rank 0 may evaluate, download or save for long while the others wait.
TIMEOUT = timedelta(hours=2)
GRACE = 20.0
"""Seconds that the others have to end in after one process has failed."""


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
        InputError: if there are fewer GPUs than processes, or the numbers do not fit each other.
        SystemExit: with the exit status of a process that failed; it has said why.
    """
    if all(name in os.environ for name in TORCHRUN_VARIABLES):
        rank, world, local_rank, local_world = _torchrun_numbers()
        _check_gpus(device, local_world)
        _join(device, "env://", rank, world, local_rank, local_world)
        try:
            _run_and_leave(main, args)
        except Exception as error:
            if getattr(error, "is_told", False):
                sys.exit(1)
            lost = as_lost_process(error)
            if lost is None:
                raise
            sys.exit(f"rank {rank}: {lost}")
        return
    _check_numbers(num_processes, num_machines, machine_rank, dist_url)
    _check_gpus(device, num_processes)
    world = num_processes * num_machines
    if world == 1:
        main(*args)
        return
    if dist_url == "auto":
        dist_url = f"tcp://127.0.0.1:{_free_port()}"
    numbers = [
        (rank, machine_rank * num_processes + rank, num_processes, world)
        for rank in range(num_processes)
    ]
    _run_processes(main, args, device, dist_url, numbers)


def _torchrun_numbers() -> list[int]:
    given = {name: os.environ[name] for name in TORCHRUN_VARIABLES}
    try:
        numbers = rank, world, local_rank, local_world = [int(value) for value in given.values()]
    except ValueError:
        numbers = []
    if not numbers or not (0 <= rank < world and 0 <= local_rank < local_world <= world):
        described = ", ".join(f"{name}={value}" for name, value in given.items())
        raise InputError(
            f"torchrun's variables {described} fit no training; start it with torchrun, or unset them"
        )
    return numbers


def _worker(
    main: Callable[..., None],
    args: tuple,
    device: str,
    dist_url: str,
    numbers: tuple[int, int, int, int],
    reports: multiprocessing.SimpleQueue,
) -> None:
    """One process of the training; why it failed is told by the one that started it."""
    local_rank, rank, num_processes, world = numbers
    try:
        _join(device, dist_url, rank, world, local_rank, num_processes)
        _run_and_leave(main, args)
    except SystemExit as end:
        if not isinstance(end.code, str):
            _end_now(end.code or 0)
        reports.put((rank, end.code, False))
    except Exception as error:
        if getattr(error, "is_told", False):
            _end_now(1)
        lost = as_lost_process(error)
        # What the pipe of the reports holds, without a reader.
        text = traceback.format_exc()[-30_000:] if lost is None else str(lost)
        reports.put((rank, text, lost is not None))
    else:
        return
    _end_now(1)


def _end_now(status: int) -> None:
    """Without the interpreter's own end, which aborts where threads of the groups still wait for other processes."""
    util._exit_function()
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


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
    if backend != "gloo":
        # Detectron2's for gathering objects would give up after PyTorch's 30 minutes.
        objects = distributed.new_group(backend="gloo", timeout=TIMEOUT)
        comm._get_global_gloo_group = lambda: objects
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


def _run_processes(
    main: Callable[..., None], args: tuple, device: str, dist_url: str, numbers: list[tuple]
) -> None:
    # Of a process that is killed; its semaphores are given back all the same.
    quiet = "ignore:resource_tracker:UserWarning"
    os.environ["PYTHONWARNINGS"] = ",".join(filter(None, [os.getenv("PYTHONWARNINGS"), quiet]))
    context = multiprocessing.get_context("spawn")
    reports = context.SimpleQueue()
    processes = [
        context.Process(target=_worker, args=(main, args, device, dist_url, n, reports))
        for n in numbers
    ]
    signals = _Forwarding(processes)
    with signals:
        for process in processes:
            process.start()
        first_failure = None
        while any(process.is_alive() for process in processes):
            connection.wait([p.sentinel for p in processes if p.is_alive()], timeout=0.2)
            signals.pass_on_late()
            if first_failure is None and any(process.exitcode for process in processes):
                first_failure = time.monotonic()
            # The others find out by themselves when they next wait for it, and save what they have.
            if first_failure is not None and time.monotonic() - first_failure > GRACE:
                for process in processes:
                    process.kill()
        for process in processes:
            process.join()
    found = []
    while not reports.empty():
        found.append(reports.get())
    status = _explain([(n[1], p.exitcode) for n, p in zip(numbers, processes, strict=True)], found)
    if status:
        sys.exit(signals.status or status)


def _explain(exits: list[tuple[int, int]], reports: list[tuple[int, str, bool]]) -> int:
    """Say once why processes failed, and in which; the exit status of the one that did first."""
    failed = {rank: code for rank, code in exits if code}
    told = {rank for rank, _, _ in reports}
    causes = [(rank, text) for rank, text, is_lost in reports if not is_lost]
    killed = {rank: -code for rank, code in failed.items() if code < 0 and rank not in told}
    if not causes and killed:
        rank, signum = next(iter(killed.items()))
        memory = ", perhaps for lack of memory" if signum == signal.SIGKILL else ""
        name = signal.Signals(signum).name
        causes = [(rank, f"the process of rank {rank} was ended by {name}{memory}")]
    if not causes:
        causes = [(rank, text) for rank, text, _ in reports]
    if causes:
        rank, text = causes[0]
        where = f"rank {rank}: " if rank and not text.startswith("the process of") else ""
        print(f"{where}{text}", file=sys.stderr, flush=True)
        code = failed.get(rank, 1)
    else:
        code = next(iter(failed.values()), 0)
    return code if code >= 0 else 128 - code


class _Forwarding:
    """Hands signals on to the processes of a training while it is entered.

    A terminal's Ctrl-C reaches them by itself, and a second one would end them at once. So they get another signal, and
    only after a moment, when it changes nothing for those that have had theirs.
    """

    def __init__(self, processes: list):
        self._processes = processes
        self._interrupted = 0.0
        self.status = 0

    def __enter__(self) -> None:
        self._before = {signum: signal.signal(signum, self._send) for signum in FORWARDED_SIGNALS}
        self._before[signal.SIGINT] = signal.signal(signal.SIGINT, self._note)

    def __exit__(self, *_: object) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)

    def pass_on_late(self) -> None:
        if self._interrupted and time.monotonic() > self._interrupted:
            self._interrupted = 0.0
            self._send(signal.SIGTERM)

    def _note(self, *_: object) -> None:
        self._interrupted = time.monotonic() + 0.5
        self.status = 128 + signal.SIGINT

    def _send(self, signum: int, _frame: object = None) -> None:
        for process in self._processes:
            if process.is_alive():
                os.kill(process.pid, signum)


def _check_numbers(num_processes: int, num_machines: int, machine_rank: int, dist_url: str) -> None:
    if num_processes < 1 or num_machines < 1:
        raise InputError(
            f"--num-gpus {num_processes} and --num-machines {num_machines} must be at least 1"
        )
    if not 0 <= machine_rank < num_machines:
        raise InputError(
            f"--machine-rank {machine_rank} must be between 0 and --num-machines - 1 = {num_machines - 1}"
        )
    if num_machines > 1 and not dist_url.startswith("tcp://"):
        raise InputError(
            f"--dist-url {dist_url}: several machines need the address of machine 0, such as tcp://10.0.0.1:29500"
        )


def _check_gpus(device: str, wanted: int) -> None:
    if device.startswith("cuda") and wanted > torch.cuda.device_count():
        raise InputError(
            f"--num-gpus {wanted}, but PyTorch sees {torch.cuda.device_count()} GPUs on this machine"
        )


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]
