#!/usr/bin/env python
"""Does a training that is killed again and again end with the weights of one that never was?

    python benchmarks/kill_resume.py                     # 20 kills at random times, 5 while a checkpoint is written
    python benchmarks/kill_resume.py --small-disk DIR    # DIR is a small disk of a few megabytes to fill

A small SMCA trains on the bundled digits with dropout, augmentation, EMA, accumulation and two loading processes, in
one thread on the CPU. It is killed (kill -9) and resumed until it is done; then a newest checkpoint is cut off,
another one filled with zeros, and a disk is full while it saves. Each time the final weights, EMA included, are
compared bit for bit.
"""

import argparse
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from surroundings import surroundings

ROOT = Path(__file__).resolve().parents[1]
SETTINGS = [
    "model.backbone.stem_channels=8",
    "model.neck.embed_dim=32",
    "model.encoder.ffn_dim=64",
    "model.encoder.dropout=0.1",
    "model.decoder.num_layers=2",
    "dataloader.train.total_batch_size=8",
    "dataloader.train.num_workers=2",
    "dataloader.train.mapper.augmentations=[{_target_: detectron2.data.transforms.RandomFlip, prob: 0.5},"
    "{_target_: detectron2.data.transforms.ResizeShortestEdge, short_edge_length: [96, 112, 128], "
    "sample_style: choice, max_size: 160}]",
    # An epoch, since a share of the training would stand elsewhere in the shorter ones below.
    "lr_multiplier.drop_epochs=[6.4]",
    "train.device=cpu",
    "train.accumulate_steps=2",
    "train.ema.enabled=True",
    "train.log_period=1",
    "train.checkpointer.period=3",
    "train.evaluation.period=0",
    "dataloader.test.dataset.names=digits_val",
    "dataloader.test.num_workers=0",
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--kills-in-writes", type=int, default=5)
    parser.add_argument("--iterations", type=int, default=240)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--small-disk",
        help="an empty folder on a disk of its own; default: a tmpfs, which needs root",
    )
    parser.add_argument("--output", default=str(ROOT / "benchmarks/results/kill_resume.json"))
    args = parser.parse_args()
    draw = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        start = time.perf_counter()
        run(work / "whole", args.iterations)
        seconds = time.perf_counter() - start
        expected = final_weights(work / "whole")
        print(
            f"uninterrupted: {args.iterations} iterations, {seconds:.0f} s with start-up",
            flush=True,
        )
        report = {
            **surroundings(),
            "iterations": args.iterations,
        }
        report |= kill_often(work, args, draw, expected)
        report["truncated"] = damage_newest(work, args, expected, "truncated", cut_off)
        report["zeroed"] = damage_newest(work, args, expected, "zeroed", fill_with_zeros)
        report["disk_full"] = fill_disk(work, args, expected)
    Path(args.output).write_text(json.dumps(report, indent=1) + "\n")
    wrong = [name for name, value in report.items() if isinstance(value, str) and "DIFFER" in value]
    if wrong:
        sys.exit(
            f"kill_resume.py: other weights than the uninterrupted run after: {', '.join(wrong)}"
        )


def kill_often(work: Path, args: argparse.Namespace, draw: random.Random, expected: dict) -> dict:
    """One training, killed at times that are uniform over all of it."""
    directory = work / "killed"
    plan = kill_plan(args, draw)
    seconds = seconds_per_iteration(work / "whole")
    killed_at: list[int] = []
    lost = 0
    for number, when in enumerate([*plan, float("inf")]):
        process = start_training(directory, args.iterations, resume=number > 0)
        if not wait_for_first_iteration(process, directory):
            break
        if (wait_for_write if when is None else wait_until)(process, directory, when, seconds):
            break
        before = last_iteration(directory)
        process.send_signal(signal.SIGKILL)
        process.wait()
        saved = newest_checkpoint(directory)
        lost += max(0, before - saved)
        killed_at.append(before)
        writing = ", while writing" if list(directory.glob("*.part")) else ""
        print(
            f"kill {number + 1:3d}: at iteration {before}, resuming after {saved}{writing}",
            flush=True,
        )
    process.wait()
    if process.returncode != 0:
        sys.exit(
            f"kill_resume.py: the training ended with status {process.returncode}: {tail(directory)}"
        )
    verdict = compare(directory, expected)
    print(f"{len(killed_at)} kills, {lost} iterations done again: {verdict}", flush=True)
    return {
        "kills": len(killed_at),
        "of_these_in_writes": plan.count(None),
        "killed_at": killed_at,
        "iterations_lost": lost,
        "killed": verdict,
    }


def kill_plan(args: argparse.Namespace, draw: random.Random) -> list[float | None]:
    """Times in iterations, uniform over the run; None is the next time that a checkpoint is being written."""
    plan: list[float | None] = sorted(draw.uniform(1, args.iterations) for _ in range(args.kills))
    for number in range(args.kills_in_writes, 0, -1):
        plan.insert(number * len(plan) // (args.kills_in_writes + 1), None)
    return plan


def damage_newest(
    work: Path,
    args: argparse.Namespace,
    expected: dict,
    name: str,
    damage: Callable[[Path], None],
) -> str:
    directory = work / name
    run(directory, args.iterations // 4)
    newest = directory / (directory / "last_checkpoint").read_text()
    damage(newest)
    run(directory, args.iterations, resume=True)
    log = (directory / "log.txt").read_text()
    verdict = compare(directory, expected)
    if f"{newest.name} is damaged" not in log:
        verdict += ", DIFFERENT from the promise: the damaged file is not named"
    print(f"newest checkpoint {name}: {verdict}", flush=True)
    return verdict


def fill_disk(work: Path, args: argparse.Namespace, expected: dict) -> str:
    """Train on a small disk with room for the first checkpoints only, then make room and go on."""
    mounted = None
    if args.small_disk is None:
        mounted = work / "disk"
        mounted.mkdir()
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", str(mounted)], capture_output=True
        )
        if done.returncode != 0:
            print(
                "full disk: not tried, no right to mount a tmpfs; give --small-disk DIR", flush=True
            )
            return "not tried"
    disk = mounted or Path(args.small_disk)
    try:
        size = (work / "whole" / "model_final.pth").stat().st_size
        # Three checkpoints stay, and a fourth is written before the oldest goes: room for two and a half.
        filler = disk / "filler"
        with filler.open("wb") as file:
            file.truncate(0)
            free = shutil.disk_usage(disk).free
            file.write(bytes(free - int(2.5 * size) - 300_000))
        process = start_training(disk / "run", args.iterations, resume=False)
        _, errors = process.communicate()
        sentence = errors.decode().strip().splitlines()[-1]
        print(f"full disk: status {process.returncode}: {sentence}", flush=True)
        clear = process.returncode == 1 and "No space left on device" in sentence
        clear = clear and b"Traceback" not in errors
        filler.unlink()
        run(disk / "run", args.iterations, resume=True)
        verdict = compare(disk / "run", expected)
        if not clear:
            verdict += ", DIFFERENT from the promise: no clear sentence"
    finally:
        if mounted is not None:
            subprocess.run(["umount", str(mounted)], check=False)
    print(f"after making room: {verdict}", flush=True)
    return verdict


def start_training(directory: Path, iterations: int, *, resume: bool) -> subprocess.Popen:
    flags = ["--resume"] if resume else []
    settings = [*SETTINGS, f"train.output_dir={directory}", f"train.max_iter={iterations}"]
    config = str(ROOT / "configs/digits/smca_single_scale.py")
    return subprocess.Popen(
        [sys.executable, str(ROOT / "train_net.py"), "--config-file", config, *flags, *settings],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def run(directory: Path, iterations: int, *, resume: bool = False) -> None:
    process = start_training(directory, iterations, resume=resume)
    _, errors = process.communicate()
    if process.returncode != 0:
        sys.exit(f"kill_resume.py: training {directory.name} failed: {errors.decode()[-2000:]}")


def wait_for_first_iteration(process: subprocess.Popen, directory: Path) -> bool:
    """False if the training ended before it."""
    lines = count_lines(directory)
    while count_lines(directory) <= lines:
        if process.poll() is not None:
            return False
        time.sleep(0.01)
    return True


def wait_until(process: subprocess.Popen, directory: Path, when: float, seconds: float) -> bool:
    """Until so many iterations are done, fractions included; True if the training ended before that."""
    whole = math.floor(when) if math.isfinite(when) else when
    while last_iteration(directory) + 1 < whole:
        if process.poll() is not None:
            return True
        time.sleep(0.005)
    time.sleep((when - whole) * seconds)
    return process.poll() is not None


def wait_for_write(process: subprocess.Popen, directory: Path, *_times: float | None) -> bool:
    """Until a checkpoint is being written; True if the training ended before that."""
    while not list(directory.glob("model_*.part")):
        if process.poll() is not None:
            return True
    return False


def count_lines(directory: Path) -> int:
    path = directory / "metrics.json"
    return path.read_bytes().count(b"\n") if path.is_file() else 0


def last_iteration(directory: Path) -> int:
    path = directory / "metrics.json"
    lines = path.read_text().splitlines() if path.is_file() else []
    return max((json.loads(line)["iteration"] for line in lines if line.endswith("}")), default=-1)


def newest_checkpoint(directory: Path) -> int:
    numbers = [int(p.stem.rpartition("_")[2]) for p in directory.glob("model_0*.pth")]
    return max(numbers, default=-1)


def seconds_per_iteration(directory: Path) -> float:
    lines = [json.loads(line) for line in (directory / "metrics.json").read_text().splitlines()]
    times = sorted(line["time"] for line in lines if "time" in line)
    return times[len(times) // 2]


def final_weights(directory: Path) -> dict[str, torch.Tensor]:
    content = torch.load(directory / "model_final.pth", weights_only=True)
    return content["model"] | {f"ema {k}": v for k, v in content["ema"]["model"].items()}


def compare(directory: Path, expected: dict[str, torch.Tensor]) -> str:
    weights = final_weights(directory)
    wrong = [name for name in expected if not torch.equal(weights[name], expected[name])]
    return f"{len(wrong)} of {len(expected)} tensors DIFFER" if wrong else "bit-identical"


def cut_off(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def fill_with_zeros(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def tail(directory: Path) -> str:
    return (directory / "log.txt").read_text()[-1000:]


if __name__ == "__main__":
    main()
