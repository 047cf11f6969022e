import os
import signal
import subprocess
import sys
import time

import pytest

from smca.engine import lock_run, unlock_runs
from smca.engine.run.run_lock import LOCK

# Takes a lock without importing PyTorch, and holds it until it is told or killed.
HOLDER = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("run_lock", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
module.lock_run(sys.argv[2])
print("locked", flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def _unlocked():
    yield
    unlock_runs()


@pytest.fixture
def holder(tmp_path):
    from smca.engine.run import run_lock

    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, run_lock.__file__, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "locked\n"
    yield process
    process.kill()
    process.wait()


def test_a_second_training_is_refused_and_told_by_whom(tmp_path, holder):
    name = os.uname().nodename
    with pytest.raises(
        ValueError, match=f"in use by another training .host {name}, process {holder.pid}, "
    ):
        lock_run(tmp_path)


@pytest.mark.parametrize("how", ["killed", "ended"])
def test_it_is_gone_with_its_process(tmp_path, holder, how):
    if how == "killed":
        holder.send_signal(signal.SIGKILL)
    else:
        holder.stdin.close()
    holder.wait(10)
    # An orderly end takes the file away, too.
    assert (tmp_path / LOCK).exists() == (how == "killed")
    lock_run(tmp_path)
    assert f"process {os.getpid()}" in (tmp_path / LOCK).read_text()


def test_loading_processes_do_not_hold_it(tmp_path):
    """They live on for some seconds after a kill."""
    lock_run(tmp_path)
    child = os.fork()
    if child == 0:
        time.sleep(30)
        os._exit(0)
    try:
        unlock_runs()
        lock_run(tmp_path)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_the_same_process_may_ask_again(tmp_path):
    lock_run(tmp_path)
    lock_run(tmp_path)
    unlock_runs()
    assert not (tmp_path / LOCK).exists()
