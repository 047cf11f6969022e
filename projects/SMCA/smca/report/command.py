"""The command ``smca-report``."""

from __future__ import annotations

import argparse
import dataclasses
import logging
import os
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from smca.data.given_dataset import import_modules, register_given_dataset
from smca.engine.run.run_directory import REPORT
from smca.errors import INTERRUPTED, InputError
from smca.text import printable

from .page import write_report
from .source import Options, report_of

_DESCRIPTION = """Judges a trained detector: one page of HTML that is complete in itself.

    smca-report output/my_run                                  writes output/my_run/report.html
    smca-report output/run_a output/run_b --output ab.html     beside each other
    smca-report model.pth --dataset val.json --images val/
    smca-report output/my_run --dataset my_val --import my_package.my_data

A training writes its report at its end by itself. RUN is the output directory of a training, whose newest checkpoint is
evaluated on the test set of its config.yaml, or a checkpoint (a file, a URL, smca://NAME)."""


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="smca-report",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="output directory, or checkpoint")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="PAGE",
        help=f"the page (default: {REPORT} in the directory of the run; of a checkpoint or several runs, here)",
    )
    parser.add_argument(
        "--dataset",
        metavar="DATA",
        help="evaluate on this: a registered name, a COCO json, YOLO's data.yaml, or a folder of Pascal VOC",
    )
    parser.add_argument(
        "--split", metavar="NAME", help="of data of YOLO or Pascal VOC (default: val)"
    )
    parser.add_argument(
        "--images",
        metavar="FOLDER",
        help="the folder that file names in the json are relative to (default: the json's)",
    )
    parser.add_argument(
        "--import",
        dest="modules",
        metavar="MODULE",
        action="append",
        default=[],
        help="import this module first: it registers the data set",
    )
    parser.add_argument(
        "--config-file",
        metavar="CONFIG",
        help="experiment, where a run or checkpoint does not bring its own: zoo name or file",
    )
    parser.add_argument(
        "--threshold",
        type=float,
        metavar="SCORE",
        help="score from which on detections are shown and counted (default: where F1 is highest)",
    )
    parser.add_argument(
        "--worst", type=int, default=8, metavar="N", help="images with errors (default: 8)"
    )
    parser.add_argument(
        "--no-predictions", action="store_true", help="training curves only, which is quick"
    )
    parser.add_argument(
        "--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    args = build_parser().parse_args(argv)
    try:
        path = _run(args)
    except KeyboardInterrupt:
        print("smca-report: interrupted", file=sys.stderr)
        return INTERRUPTED
    except (InputError, OSError) as error:
        print(f"smca-report: {printable(' '.join(str(error).split()))}", file=sys.stderr)
        return 1
    print(path)
    return 0


def _run(args: argparse.Namespace) -> Path:
    if args.threshold is not None and not 0 <= args.threshold <= 1:
        raise InputError(f"--threshold is {args.threshold:g}, it must be between 0 and 1")
    if args.worst < 0:
        raise InputError(f"--worst is {args.worst}, it must be 0 or more")
    output = args.output or _default_output(args.runs)
    _check_writable(output)
    import_modules(args.modules)
    dataset = args.dataset
    for option in ("images", "split"):
        if getattr(args, option) is not None and dataset is None:
            raise InputError(f"--{option} goes with --dataset")
    if dataset is not None:
        dataset = register_given_dataset(dataset, image_root=args.images, split=args.split)
    options = Options(args.config_file, dataset, args.device, predict=not args.no_predictions)
    logging.basicConfig(format="%(message)s", level=logging.WARNING, stream=sys.stderr)
    # Says how far it is, and how long it still takes.
    logging.getLogger("detectron2.evaluation.evaluator").setLevel(logging.INFO)
    runs = []
    for source in args.runs:
        print(f"Reading {printable(source)} ...", file=sys.stderr, flush=True)
        runs.append(report_of(source, options))
        for sentence in runs[-1].missing:
            print(f"smca-report: {printable(sentence)}", file=sys.stderr)
    names = Counter(run.name for run in runs)
    runs = [
        # Of two with one name only the whole path says which is which.
        dataclasses.replace(run, name=source) if names[run.name] > 1 else run
        for run, source in zip(runs, args.runs, strict=True)
    ]
    write_report(output, runs, threshold=args.threshold, images=args.worst)
    return output


def _default_output(runs: Sequence[str]) -> Path:
    return Path(runs[0] if len(runs) == 1 and os.path.isdir(runs[0]) else ".") / REPORT


def _check_writable(output: Path) -> None:
    """Before there are predictions that could not be told."""
    if output.is_dir():
        raise InputError(f"--output {output} is a folder; name a file in it")
    if not output.parent.is_dir():
        raise InputError(f"--output {output}: there is no folder {output.parent}")
    if not os.access(output.parent, os.W_OK):
        raise InputError(f"{output.parent} cannot be written to; name another place with --output")


if __name__ == "__main__":
    sys.exit(main())
