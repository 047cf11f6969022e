"""tools/train.slurm under stand-ins for Slurm's commands and for python."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# srun runs the command once per node; here there is one node. Its own flags come first.
SRUN = """#!/bin/bash
while [[ "$1" == --* ]]; do shift; done
SLURM_NODEID=0 exec "$@"
"""
SCONTROL = """#!/bin/bash
if [ "$1" = show ]; then echo node-a; else echo "$@" > "$RECORD/requeued"; fi
"""
# Stands for train_net.py: keeps its arguments, ends as it is told, and on USR1 as a saved training does.
PYTHON = """#!/bin/bash
printf '%s\\n' "$@" > "$RECORD/arguments"
trap 'touch "$RECORD/saved"; exit 138' USR1
touch "$RECORD/started"
for _ in $(seq 200); do [ -e "$RECORD/end" ] && exit "$(cat "$RECORD/end")"; sleep 0.05; done
"""


@pytest.fixture
def job(tmp_path):
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL), ("python", PYTHON)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "PYTHON": str(tmp_path / "python"),
        "RECORD": str(tmp_path),
        "SLURM_JOB_ID": "20007",
        "SLURM_JOB_NODELIST": "node-a",
        "SLURM_GPUS_ON_NODE": "4",
        "SLURM_NNODES": "1",
    }
    process = subprocess.Popen(
        [
            "bash",
            str(ROOT / "tools" / "train.slurm"),
            "--config-file",
            "configs/a.py",
            "train.seed=1",
        ],
        env=environment,
        stdout=subprocess.DEVNULL,
    )
    for _ in range(200):
        if (tmp_path / "started").exists():
            break
        time.sleep(0.05)
    yield process, tmp_path
    process.kill()


def test_arguments_reach_the_training(job):
    process, record = job
    (record / "end").write_text("0")
    assert process.wait(20) == 0
    words = (record / "arguments").read_text().split()
    assert words == [
        *("train_net.py", "--resume", "--num-gpus", "4", "--num-machines", "1"),
        *("--machine-rank", "0", "--dist-url", "tcp://node-a:20007"),
        *("--config-file", "configs/a.py", "train.seed=1"),
    ]
    assert not (record / "requeued").exists()


def test_a_signal_saves_and_requeues(job):
    process, record = job
    process.send_signal(signal.SIGUSR1)
    assert process.wait(20) == 0
    assert (record / "saved").exists()
    assert (record / "requeued").read_text().split() == ["requeue", "20007"]


def test_a_failure_is_not_requeued(job):
    process, record = job
    (record / "end").write_text("1")
    assert process.wait(20) == 1
    assert not (record / "requeued").exists()
