"""The command ``smca-check-dataset``."""

from __future__ import annotations

import argparse
import json
import os
import sys

from omegaconf import OmegaConf

from smca.data.given_dataset import import_modules
from smca.errors import InputError
from smca.experiments import load_experiment
from smca.whole_file import replacing

from .check import ASSUMED_QUERIES, check_dataset
from .fix import check_target, fix_dataset
from .plot import draw_report
from .table import format_report, report_as_json
from .targets import check_writable, naming_option

CLEAN, FAULTS, NOT_CHECKED = 0, 1, 2

_DESCRIPTION = """Inspects a data set before training: its annotations, and every image file.

    smca-check-dataset train/annotations.json                            images in the json's folder
    smca-check-dataset train.json --images train/ --output train.png
    smca-check-dataset train.json --images train/ --fix train_fixed.json
    smca-check-dataset pets/data.yaml --split val                        YOLO's format
    smca-check-dataset VOC2007 --split trainval --fix trainval.json      Pascal VOC's, and a COCO json of it
    smca-check-dataset coco_2017_train --no-images
    smca-check-dataset my_train --import my_package.my_data

DATASET is a COCO json, the data.yaml of a YOLO data set, a folder of Pascal VOC, or a registered name. Exit status:
0 no faults, 1 faults, 2 it cannot be checked."""


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="smca-check-dataset",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "dataset", metavar="DATASET", help="a COCO json, data.yaml, folder, or registered name"
    )
    parser.add_argument(
        "--images",
        metavar="FOLDER",
        help="the folder that file names in the json are relative to (default: the json's)",
    )
    parser.add_argument(
        "--split",
        metavar="NAME",
        help="of YOLO's data.yaml or Pascal VOC's ImageSets/Main (default: train)",
    )
    parser.add_argument(
        "--no-images", action="store_true", help="look at the annotations only, which is quick"
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
        "--num-queries",
        type=int,
        metavar="Q",
        help=f"object queries of the model: images with more objects are faults (default: {ASSUMED_QUERIES})",
    )
    parser.add_argument(
        "--config-file",
        metavar="CONFIG",
        help="take the number of queries from this experiment, a file or a name such as smca_r50_50ep",
    )
    parser.add_argument("--output", metavar="PICTURE", help="draw distributions and samples")
    parser.add_argument("--json", metavar="REPORT", dest="report", help="write the report as json")
    parser.add_argument("--fix", metavar="NEW", help="write a corrected copy as a COCO json")
    parser.add_argument(
        "--force", action="store_true", help="let --fix overwrite a file, never the checked one"
    )
    parser.add_argument(
        "--workers",
        type=int,
        default=min(8, os.cpu_count() or 1),
        metavar="N",
        help="processes that read images; 0 reads in this one (default: %(default)s)",
    )
    parser.add_argument(
        "--examples", type=int, default=3, metavar="N", help="records named per fault (default: 3)"
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    args = build_parser().parse_args(argv)
    try:
        return _run(args)
    except (InputError, OSError) as error:
        print(f"smca-check-dataset: {' '.join(str(error).split())}", file=sys.stderr)
        return NOT_CHECKED


def _run(args: argparse.Namespace) -> int:
    num_queries = _queries(args)
    for option, value, least in (
        ("--workers", args.workers, 0),
        ("--num-queries", num_queries, 1),
        ("--examples", args.examples, 0),
    ):
        if value < least:
            raise InputError(f"{option} must be {least} or more, not {value}")
    if args.fix and os.path.isfile(args.dataset):
        check_target(args.dataset, args.fix, overwrite=args.force, name=args.dataset)
    targets = (("--output", args.output), ("--json", args.report), ("--fix", args.fix))
    for option, path in targets:
        if path:
            check_writable(path, option)
    import_modules(args.modules)
    report = check_dataset(
        args.dataset,
        image_root=args.images,
        split=args.split,
        images=not args.no_images,
        num_queries=num_queries,
        workers=args.workers,
        progress=sys.stderr.isatty(),
    )
    if args.fix:
        check_target(report.json_file, args.fix, overwrite=args.force, name=report.name)
    print(format_report(report, examples=args.examples))
    if args.report:
        with naming_option("--json", args.report):
            _write_report(report_as_json(report), args.report)
    if args.output:
        with naming_option("--output", args.output):
            draw_report(report, args.output)
        print(f"\nPicture: {args.output}")
    if args.fix:
        with naming_option("--fix", args.fix):
            changes = fix_dataset(report, args.fix, overwrite=args.force)
        print(f"\nWritten to {args.fix}, {report.json_file} is as it was. Changed:")
        if report.folder is not None:
            print(f"  a COCO json with file names relative to {report.folder.image_root}")
        print("\n".join(f"  {change}" for change in changes or ["nothing"]))
    return FAULTS if report.findings else CLEAN


def _queries(args: argparse.Namespace) -> int:
    if args.num_queries is not None:
        return args.num_queries
    if args.config_file is None:
        return ASSUMED_QUERIES
    cfg = load_experiment(args.config_file)
    number = OmegaConf.select(cfg, "model.decoder.num_queries")
    if type(number) is not int:
        raise InputError(f"--config-file {args.config_file}: it has no model.decoder.num_queries")
    return number


def _write_report(content: dict, path: str) -> None:
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    with replacing(path) as partial:
        partial.write_text(json.dumps(content, indent=1), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
