"""Downloads from a server of the test: whole and right, or not at all."""

import hashlib
import multiprocessing
import os
import threading

import numpy as np
import pytest

from helpers.file_server import serve
from smca.model_zoo import download as module
from smca.model_zoo.download import download, is_intact

CONTENT = np.random.RandomState(0).bytes(300_000)
OTHER = np.random.RandomState(1).bytes(300_000)


@pytest.fixture
def server():
    with serve(CONTENT) as served:
        yield served


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch):
    monkeypatch.setattr(module, "_PAUSE", 0)


@pytest.fixture
def target(tmp_path):
    return tmp_path / "cache" / "w.pth"


def fetch(server, target, content=CONTENT):
    download(
        f"{server.url}/w.pth",
        target,
        sha256=hashlib.sha256(content).hexdigest(),
        size=len(content),
    )


def part(target):
    return target.with_name("w.pth.part")


def test_a_file_once(server, target):
    for _ in range(2):
        fetch(server, target)
        assert target.read_bytes() == CONTENT
        assert not part(target).exists()
    assert server.requests == [None]


@pytest.mark.parametrize("ranges", [True, False])
def test_a_cut_connection_within_one_call(ranges, server, target):
    server.ranges = ranges
    server.cut_after = [100_000]
    fetch(server, target)
    assert target.read_bytes() == CONTENT
    assert server.requests == [None, "bytes=100000-"]


@pytest.mark.parametrize("ranges", [True, False])
def test_what_arrived_is_used_by_a_later_call(ranges, server, target):
    server.ranges = ranges
    server.cut_after = [70_000, *[0] * 9] if ranges else [70_000] * 3
    with pytest.raises(ValueError, match=r"connection was cut.*after 70000 of 300000") as error:
        fetch(server, target)
    assert "\n" not in str(error.value)
    assert not target.exists()
    assert part(target).read_bytes() == CONTENT[:70_000]
    server.cut_after = []
    fetch(server, target)
    assert target.read_bytes() == CONTENT
    assert server.requests[-1] == "bytes=70000-"


def test_a_part_of_something_else_is_started_over(server, target):
    """As after the file on the server was replaced."""
    target.parent.mkdir()
    part(target).write_bytes(OTHER[:1000])
    fetch(server, target)
    assert target.read_bytes() == CONTENT
    assert server.requests == ["bytes=1000-", None]


def test_a_part_that_is_longer_than_the_file(server, target):
    target.parent.mkdir()
    part(target).write_bytes(OTHER + b"more")
    fetch(server, target)
    assert target.read_bytes() == CONTENT


def test_a_complete_part_needs_no_server(server, target):
    target.parent.mkdir()
    part(target).write_bytes(CONTENT)
    fetch(server, target)
    assert target.read_bytes() == CONTENT
    assert server.requests == []


def test_a_wrong_hash_is_never_used(server, target):
    server.content = OTHER
    with pytest.raises(ValueError, match="its sha256 is another one"):
        fetch(server, target)
    assert not target.exists()
    assert not part(target).exists()


def test_a_file_that_does_not_end(server, target):
    server.content = CONTENT + b"more"
    with pytest.raises(ValueError, match="more than 300000 bytes"):
        fetch(server, target)
    assert not target.exists()


def test_a_file_that_is_too_short(server, target):
    server.content = CONTENT[:-1]
    with pytest.raises(ValueError, match=r"cut.*299999 of 300000"):
        fetch(server, target)
    assert not target.exists()


def test_a_damaged_file_is_fetched_again(server, target):
    target.parent.mkdir()
    target.write_bytes(OTHER)
    fetch(server, target)
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("status", [404, 403, 500])
def test_what_the_server_says(status, server, target):
    server.status = status
    with pytest.raises(ValueError, match=f"w.pth cannot be downloaded: the server says {status}"):
        fetch(server, target)
    assert len(server.requests) == 1


def test_without_a_connection(target):
    with serve(CONTENT) as server:
        pass
    with pytest.raises(ValueError, match=r"cannot be downloaded.*refused") as error:
        fetch(server, target)
    assert "\n" not in str(error.value)


def test_a_folder_that_cannot_be_made(server, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="SMCA_CACHE"):
        fetch(server, tmp_path / "file" / "w.pth")


def test_threads_share_one_download(server, target):
    threads = [threading.Thread(target=fetch, args=(server, target)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert target.read_bytes() == CONTENT
    assert server.requests == [None]


def _fetch_in_process(url, target, queue):
    try:
        download(url, target, sha256=hashlib.sha256(CONTENT).hexdigest(), size=len(CONTENT))
        queue.put(target.read_bytes() == CONTENT)
    except Exception as error:
        queue.put(repr(error))


def test_processes_share_one_download(server, target):
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    arguments = (f"{server.url}/w.pth", target, queue)
    processes = [context.Process(target=_fetch_in_process, args=arguments) for _ in range(4)]
    for process in processes:
        process.start()
    assert [queue.get(timeout=20) for _ in processes] == [True] * 4
    for process in processes:
        process.join()
    assert server.requests == [None]


def test_a_change_of_a_file_is_seen(tmp_path):
    path = tmp_path / "w.pth"
    expected = {"sha256": hashlib.sha256(CONTENT).hexdigest(), "size": len(CONTENT)}
    assert not is_intact(path, **expected)
    path.write_bytes(CONTENT)
    assert is_intact(path, **expected)
    path.write_bytes(OTHER)
    os.utime(path, ns=(1, 1))
    assert not is_intact(path, **expected)
