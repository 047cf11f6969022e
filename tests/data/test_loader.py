import itertools
import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from detectron2.utils import comm

from smca.data import TrainLoader, build_test_loader
from smca.data.loader import check_batch_size


def draw(record: dict) -> dict:
    """Draws from every generator that augmentations use."""
    record["drawn"] = (random.random(), float(np.random.rand()), float(torch.rand(())))
    return record


def make(count=10, *, batch_size=4, num_workers=0, seed=3, start=0, mapper=draw) -> TrainLoader:
    loader = TrainLoader(
        dataset=[{"image_id": i} for i in range(count)],
        mapper=mapper,
        total_batch_size=batch_size,
        num_workers=num_workers,
        seed=seed,
    )
    loader.start_iteration = start
    return loader


def take(loader, count) -> list[list[dict]]:
    return list(itertools.islice(iter(loader), count))


def image_ids(batches) -> list[int]:
    return [item["image_id"] for batch in batches for item in batch]


@pytest.fixture
def ranks(monkeypatch):
    def become(rank, world_size):
        monkeypatch.setattr(comm, "get_rank", lambda: rank)
        monkeypatch.setattr(comm, "get_world_size", lambda: world_size)

    return become


def test_workers_change_nothing():
    expected = take(make(), 7)
    assert take(make(num_workers=2), 7) == expected
    assert take(make(), 7) == expected
    drawn = [item["drawn"] for batch in expected for item in batch]
    assert len(set(drawn)) == len(drawn)


def test_workers_are_forked_by_a_process_that_was_spawned():
    """Spawned ones take seconds to start; a mapper that is no function of a module shows which they are."""
    before = multiprocessing.get_start_method()
    multiprocessing.set_start_method("spawn", force=True)
    try:
        loader = make(num_workers=1, mapper=lambda record: draw(record))
        assert len(take(loader, 1)[0]) == 4
        loader.close()
        test = build_test_loader(dataset=[{"image_id": 1}], mapper=lambda r: draw(r), num_workers=1)
        assert len(list(test)) == 1
    finally:
        multiprocessing.set_start_method(before, force=True)


def test_the_order_does_not_repeat_after_some_epochs():
    orders = {
        tuple(image_ids(take(make(start=3 * e, batch_size=4, count=12), 3))) for e in range(20)
    }
    assert len(orders) == 20


def test_the_global_generators_change_nothing():
    expected = take(make(), 3)
    random.seed(99)
    np.random.seed(99)
    torch.manual_seed(99)
    assert take(make(), 3) == expected


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("start", [1, 2, 3, 8])
def test_a_later_start_is_the_same_stream(start, num_workers):
    expected = take(make(), 11)
    assert take(make(start=start, num_workers=num_workers), 11 - start) == expected[start:]


def test_iterating_again_starts_over():
    loader = make()
    assert take(loader, 3) == take(loader, 3)


def test_another_seed_gives_another_order_and_other_draws():
    first, second = take(make(), 5), take(make(seed=4), 5)
    assert image_ids(first) != image_ids(second)
    by_image = [
        {i["image_id"]: i["drawn"] for b in batches for i in b} for batches in (first, second)
    ]
    assert all(by_image[0][i] != by_image[1][i] for i in by_image[0])


def test_every_image_once_per_epoch_in_a_new_order():
    """10 images in batches of 4: epochs end within a batch."""
    stream = image_ids(take(make(), 15))
    epochs = [stream[i : i + 10] for i in range(0, 60, 10)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == len(epochs)


def test_an_image_is_augmented_anew_in_every_epoch():
    draws = {}
    for batch in take(make(), 10):
        for item in batch:
            draws.setdefault(item["image_id"], set()).add(item["drawn"])
    assert all(len(found) == 4 for found in draws.values())


def test_a_batch_larger_than_the_data_set():
    (batch,) = take(make(3, batch_size=8), 1)
    assert sorted(image_ids([batch])[:3]) == [0, 1, 2]
    assert len(batch) == 8


@pytest.mark.parametrize("num_workers", [0, 2])
def test_the_main_process_keeps_its_generators(num_workers):
    def states():
        return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()

    before = states()
    take(make(num_workers=num_workers), 3)
    assert states() == before


def test_the_generators_are_restored_after_a_failing_mapper():
    def fail(record):
        draw(record)
        raise RuntimeError("broken image")

    before = torch.get_rng_state()
    with pytest.raises(RuntimeError, match="broken image"):
        take(make(mapper=fail), 1)
    assert torch.equal(torch.get_rng_state(), before)


def test_generators_of_gpus_are_left_alone(monkeypatch):
    def fail(seed):
        raise AssertionError("seeded CUDA")

    monkeypatch.setattr(torch.cuda, "manual_seed_all", fail)
    take(make(), 1)


def test_a_mapper_may_change_its_record():
    def consume(record):
        return {"image_id": record.pop("image_id")}

    stream = image_ids(take(make(mapper=consume), 5))
    assert sorted(stream[:10]) == list(range(10))


@pytest.mark.parametrize("world_size", [2, 4])
def test_ranks_share_each_step(ranks, world_size):
    whole = take(make(), 6)
    parts = []
    for rank in range(world_size):
        ranks(rank, world_size)
        parts.append(take(make(), 6))
    joined = [list(itertools.chain(*step)) for step in zip(*parts, strict=True)]
    assert joined == whole


def test_a_resumed_run_may_have_another_number_of_ranks(ranks):
    whole = take(make(), 6)
    parts = []
    for rank in range(2):
        ranks(rank, 2)
        parts.append(take(make(start=4), 2))
    assert [a + b for a, b in zip(*parts, strict=True)] == whole[4:]


def test_iterations_per_epoch():
    loader = make(10, batch_size=4)
    assert loader.iterations_per_epoch == 2.5
    assert (loader.num_images, loader.total_batch_size) == (10, 4)


@pytest.mark.parametrize(("batch_size", "world_size"), [(5, 2), (2, 4), (0, 1), (-4, 1), (7, 3)])
def test_batch_sizes_that_cannot_be_split(ranks, batch_size, world_size):
    ranks(0, world_size)
    message = f"total_batch_size {batch_size} must be .* multiple of the {world_size} processes"
    with pytest.raises(ValueError, match=message):
        make(batch_size=batch_size)


def test_no_images():
    with pytest.raises(ValueError, match="the training data set has no images"):
        make(0)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_test_loader_gives_every_image_once_in_order(num_workers):
    loader = build_test_loader(
        dataset=[{"image_id": i} for i in range(10)],
        mapper=draw,
        batch_size=4,
        num_workers=num_workers,
    )
    batches = list(loader)
    assert [len(batch) for batch in batches] == [4, 4, 2]
    assert image_ids(batches) == list(range(10))
    assert len(loader) == 3


@pytest.mark.parametrize("count", [1, 3, 10, 16])
@pytest.mark.parametrize("world_size", [1, 2, 3, 5, 8])
def test_test_loader_splits_over_ranks(ranks, world_size, count):
    seen, sizes = [], []
    for rank in range(world_size):
        ranks(rank, world_size)
        loader = build_test_loader(
            dataset=[{"image_id": i} for i in range(count)],
            mapper=dict,
            batch_size=2,
            num_workers=0,
        )
        share = image_ids(loader)
        seen += share
        sizes.append(len(share))
    assert seen == list(range(count))
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize(("batch_size", "steps"), [(4, 3), (2, 4), (4, 0), (4, -1)])
def test_batches_that_forward_passes_cannot_share(batch_size, steps):
    with pytest.raises(ValueError, match=f"{steps} (forward passes|must be at least 1)"):
        check_batch_size(batch_size, steps)


def test_forward_passes_of_all_processes_share_a_batch(ranks):
    ranks(1, 2)
    check_batch_size(8, 4)
    with pytest.raises(ValueError, match=r"8 must be .* of the 2 processes times 8 forward passes"):
        check_batch_size(8, 8)


SIGNALS = [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1]


@pytest.mark.parametrize("signum", SIGNALS)
@pytest.mark.parametrize("wait", [False, True])
def test_workers_survive_signals_to_the_whole_group(signum, wait):
    """From their first moment on, and also when signals come faster than they are handled."""
    expected = take(make(), 6)
    loader = make(num_workers=2)
    batches = iter(loader)
    found = [next(batches)] if wait else []
    for _ in range(50):
        for worker in batches._workers:
            os.kill(worker.pid, signum)
            os.kill(worker.pid, signum)
        time.sleep(0.001)
    found += itertools.islice(batches, 6 - len(found))
    assert found == expected
    assert all(worker.is_alive() for worker in batches._workers)
    loader.close()


def test_the_main_process_takes_signals_as_before():
    loader = make(num_workers=2)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    batches = iter(loader)
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before
    next(batches)
    assert [signal.getsignal(signum) for signum in SIGNALS] == [
        signal.SIG_DFL, signal.default_int_handler, signal.SIG_DFL,
    ]  # fmt: skip


def test_workers_of_a_closed_loader_can_be_ended():
    loader = make(num_workers=2)
    batches = iter(loader)
    next(batches)
    workers = batches._workers
    loader.close()
    for worker in workers:
        os.kill(worker.pid, signal.SIGTERM)
        worker.join(10)
        assert worker.exitcode == 0
    loader.close()


def test_workers_end_when_nobody_iterates_any_more():
    loader = make(num_workers=2)
    batches = iter(loader)
    next(batches)
    workers = batches._workers
    del batches
    for worker in workers:
        worker.join(10)
        assert not worker.is_alive()


def test_iterating_anew_closes_the_one_before():
    loader = make(num_workers=1)
    first = iter(loader)
    next(first)
    (worker,) = first._workers
    second = iter(loader)
    os.kill(worker.pid, signal.SIGTERM)
    worker.join(10)
    assert worker.exitcode == 0
    assert next(second) == take(make(), 1)[0]
    loader.close()


SCRIPT = """
import json, os, signal, sys, time
from smca.data import TrainLoader

ENDINGS = {
    "last line": lambda: None,
    "error": lambda: 1 / 0,
    "exit": lambda: sys.exit(3),
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "terminate": lambda: os.kill(os.getpid(), signal.SIGTERM),
}

def slow(record):
    time.sleep(0.05)
    return record

def train(end, report):
    loader = TrainLoader(
        dataset=[{"id": i} for i in range(8)], mapper=slow, total_batch_size=2, num_workers=2
    )
    # Global: still there when the interpreter ends, as after a failure of a training.
    global batches
    batches = iter(loader)
    next(batches)
    os.write(report, json.dumps([worker.pid for worker in batches._workers]).encode())
    end()

found = {}
for name, end in ENDINGS.items():
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        train(end, writing)
        sys.exit(0)
    found[name] = child, reading
results = {}
for name, (child, reading) in found.items():
    pids = json.loads(os.read(reading, 1000))
    results[name] = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), pids
print(json.dumps(results))
"""


def is_running(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="looks processes up in /proc")
def test_workers_end_with_the_process_however_it_ends(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", str(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            output, _ = process.communicate(timeout=60)
        finally:
            # Whatever hangs.
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    results = json.loads(output)
    assert {name: status for name, (status, _) in results.items()} == {
        "last line": 0, "error": 1, "exit": 3, "kill": -9, "terminate": -15,
    }  # fmt: skip
    workers = [pid for _, pids in results.values() for pid in pids]
    assert len(workers) == 10
    # Orphans look for their parent every five seconds.
    deadline = time.monotonic() + 15
    while any(map(is_running, workers)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
