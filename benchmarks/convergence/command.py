"""``tools/convergence_study.py``: what there is to do, doing it, and the report."""

import argparse
import contextlib
import multiprocessing
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from smca import model_zoo
from smca.engine import lock_run, unlock_runs
from smca.errors import InputError

from . import cost
from .plan import PARTS, SWEEP, Run, planned, sweep_runs, swept_variant
from .report import write_report
from .store import Store
from .variants import VARIANTS

RESULTS = Path("benchmarks/results/convergence")
WORK = Path("output/convergence")


def build_parser(description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (
        ("list", "what has run, what is left, and what it will cost"),
        ("run", "do what is left; stop it at any time, it goes on where it was"),
        ("report", "summary, pictures and tables from the records of finished runs"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("--results", type=Path, default=RESULTS, help="default: %(default)s")
        if name == "report":
            continue
        command.add_argument(
            "--parts", nargs="+", choices=sorted(PARTS), metavar="PART", help=", ".join(PARTS)
        )
        command.add_argument(
            "--only", nargs="+", choices=sorted(VARIANTS), metavar="VARIANT", default=[]
        )
        command.add_argument("--seeds", nargs="+", type=int, metavar="N", default=[])
        if name == "run":
            command.add_argument("--threads", type=int, default=1, help="default: %(default)s")
            command.add_argument("--device", default="auto", help="default: %(default)s")
            command.add_argument(
                "--commit", action="store_true", help="commit each finished run on its own"
            )
            command.add_argument("--hours", type=float, help="begin no run after this time")
    return parser  # fmt: skip


def main(arguments: Sequence[str] | None = None, description: str = "") -> None:
    args = build_parser(description).parse_args(arguments)
    store = Store(args.results)
    try:
        if args.command == "report":
            print("\n".join(str(path) for path in write_report(store)))
        elif args.command == "list":
            print(overview(store.load(), _parts(args), args.only, args.seeds))
        else:
            _run(args, store)
    except InputError as error:
        sys.exit(f"convergence_study.py: {error}")


def _parts(args: argparse.Namespace) -> list[str]:
    """Those asked for; without, all but those that want a GPU where there is none, and sweeps by the way."""
    if args.parts:
        return args.parts
    import torch

    return [name for name, part in PARTS.items() if torch.cuda.is_available() or not part.needs_gpu]


def is_there(variant: str) -> bool:
    """Whether the experiment of a variant is in this checkout."""
    return VARIANTS[variant].experiment in model_zoo.list_configs()


def to_do(
    results: dict[str, dict], parts: Sequence[str], only: Sequence[str], seeds: Sequence[int]
) -> Iterator[tuple[Run, str]]:
    """Runs that are not finished, each with what it waits for: nothing, or the name of a sweep's run.

    A sweep's own runs come before the first run that needs their outcome, or alone where only they are asked for.
    """
    asked = set()
    if set(parts) == {SWEEP}:
        for variant in PARTS[SWEEP].variants:
            if is_there(variant) and (not only or variant in only):
                for run in sweep_runs(variant, results)[0]:
                    yield run, ""
        return
    for run in planned(parts, only, seeds):
        swept = swept_variant(run.variant)
        if run.name in results or not is_there(run.variant):
            continue
        missing, factor = sweep_runs(swept, results)
        for needed in missing:
            if needed not in asked:
                yield needed, ""
        asked.update(missing)
        if missing:
            yield run, missing[-1].name
        else:
            yield replace(run, factor=factor * PARTS[run.part].rate_factor), ""


def overview(
    results: dict[str, dict], parts: Sequence[str], only: Sequence[str], seeds: Sequence[int]
) -> str:
    """A line per part: finished runs of those planned, and the hours that are left on one thread."""
    left = [run for run, _ in to_do(results, parts, only, seeds)]
    lines = [f"{'part':10s} {'finished':>8s} {'left':>5s} {'hours left':>10s}"]
    for part in (SWEEP, *(name for name in PARTS if name != SWEEP)):
        mine = [run for run in left if run.part == part]
        done = sum(record["run"]["part"] == part for record in results.values())
        if mine or done:
            hours = cost.estimate(mine, results) / 3600
            lines.append(f"{part:10s} {done:8d} {len(mine):5d} {hours:10.1f}")
    hours = cost.estimate(left, results) / 3600
    lines.append(f"{'all':10s} {len(results):8d} {len(left):5d} {hours:10.1f}")
    lines.append(
        "Hours of training on one thread, evaluations take about a sixth more; a sweep may need more runs than it has "
        "here."
    )
    absent = sorted({v for part in parts for v in PARTS[part].variants if not is_there(v)})
    lines += [
        f"{VARIANTS[v].title} is left out: this checkout has no experiment {VARIANTS[v].experiment}."
        for v in absent
    ]
    return "\n".join(lines)


def _run(args: argparse.Namespace, store: Store) -> None:
    parts, start = _parts(args), time.monotonic()
    # What runs is the code as it is now, whatever is committed while they do.
    from .training import commit_of_code

    code = commit_of_code()
    print(overview(store.load(), parts, args.only, args.seeds), flush=True)
    while args.hours is None or time.monotonic() - start < 3600 * args.hours:
        run = _claim(to_do(store.load(), parts, args.only, args.seeds))
        if run is None:
            print("nothing is left that no other process does", flush=True)
            break
        print(f"{time.strftime('%H:%M')} {run.name}: {run.steps} steps", flush=True)
        record = _in_a_process(run, args)
        path = store.save(run.name, {**record, **code}, commit=args.commit)
        end = record["curve"][-1]
        left = cost.estimate(
            (r for r, _ in to_do(store.load(), parts, args.only, args.seeds)), store.load()
        )
        print(
            f"{time.strftime('%H:%M')} {path.name}: AP {end['AP']:.2f}, {cost.time_of(end):.0f} s; "
            f"about {left / 3600:.1f} h are left",
            flush=True,
        )


def _claim(runs: Iterator[tuple[Run, str]]) -> Run | None:
    """The first run that waits for nothing and that no other process does."""
    for run, waits_for in runs:
        if waits_for:
            continue
        try:
            # Let go for the process that does it; whoever takes it in between is noticed there.
            lock_run(WORK / run.name)
        except InputError:
            continue
        unlock_runs()
        return run
    return None


def _in_a_process(run: Run, args: argparse.Namespace) -> dict:
    """Each run has a process of its own, whose memory and log end with it."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_train, args=(run, args.threads, args.device, sender))
    process.start()
    sender.close()
    # The training saves and ends; so then does the study.
    before = signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    try:
        record = receiver.recv()
    except EOFError:
        record = None
    except KeyboardInterrupt:
        # The training has got it, too.
        record = None
    process.join()
    signal.signal(signal.SIGTERM, before)
    if record is None:
        sys.exit(f"convergence_study.py: {run.name} was stopped; the same command goes on with it")
    return record


def _train(run: Run, threads: int, device: str, sender) -> None:
    from smca.engine import TrainingInterrupted

    from .training import train

    # Closed without a record: it was stopped, or ended with an error that it has told.
    with contextlib.suppress(TrainingInterrupted):
        sender.send(train(run, output_dir=WORK / run.name, threads=threads, device=device))
