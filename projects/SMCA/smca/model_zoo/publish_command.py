"""Makes a file to share from a checkpoint of a training.

    smca-publish output/my_run --name forklifts --formats pth safetensors
    smca-publish output/my_run/model_best.pth --output-dir published --index published/index.json

The file has the weights only (the moving averages, if the training kept any), the model's config, the names of its
classes, metrics and versions, and the beginning of its hash in its name. smca-predict needs nothing else. Printed is
its entry for an index of the model zoo.
"""

import argparse
import dataclasses
import json
import math
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from smca.checkpoint import ModelInfo, model_info_from_lazy
from smca.checkpoint.file_formats import ENCODERS
from smca.data.sources.class_names import class_names, fill_num_classes
from smca.errors import InputError
from smca.experiments import load_experiment
from smca.text import printable

from .index import ZooEntry, check_name
from .publish import append_entry, find_checkpoint, prepare, write_shareable


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="smca-publish",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", help="a checkpoint, or the directory of a run")
    parser.add_argument("--name", help="in file names and the index (default: the config's name)")
    parser.add_argument("--output-dir", default=".", help="folder of the files (default: this one)")
    parser.add_argument(
        "--formats",
        nargs="+",
        choices=list(ENCODERS),
        default=["pth"],
        help="kinds of files; the index entry is the first one's (default: pth)",
    )
    parser.add_argument(
        "--config-file",
        metavar="CONFIG",
        help="zoo name or .py file of the model, for a checkpoint that does not describe it",
    )
    parser.add_argument(
        "--raw", action="store_true", help="the weights themselves where there are averages, too"
    )
    parser.add_argument(
        "--metric",
        action="append",
        type=_metric,
        metavar="NAME=VALUE",
        help="such as bbox/AP=43.7, in place of the training's own; may be repeated",
    )
    parser.add_argument("--licence", default="", help="of the weights")
    parser.add_argument("--training-log", default="", help="address of the training's log")
    parser.add_argument("--url-prefix", help="address of the folder that the files will be in")
    parser.add_argument("--index", type=Path, metavar="FILE", help="add the entry to this index")
    parser.add_argument(
        "--force", action="store_true", help="replace an entry of that name in the index"
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="fields of --config-file")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    args = build_parser().parse_intermixed_args(argv)
    try:
        entry = publish(args)
    except (InputError, OSError) as error:
        print(f"smca-publish: {printable(str(error))}", file=sys.stderr)
        return 1
    print(json.dumps({entry.name: entry.to_json()}, indent=1, ensure_ascii=False))
    return 0


def publish(args: argparse.Namespace) -> ZooEntry:
    """What the command does, with the arguments of :func:`build_parser`.

    Returns:
        The entry of the first file.

    Raises:
        InputError, OSError: in one sentence.
    """
    if args.overrides and not args.config_file:
        raise InputError(
            f"{args.overrides[0]}: without --config-file there are no fields to set; a folder for the files is "
            "--output-dir"
        )
    info = _describe(args.config_file, args.overrides) if args.config_file else None
    shareable = prepare(
        find_checkpoint(args.source),
        described_as=info,
        raw=args.raw,
        metrics=dict(args.metric) if args.metric else None,
    )
    name = args.name or shareable.info.config_name
    stem = re.sub(r"[^\w.-]+", "_", name).strip("_.")
    if not stem:
        raise InputError("the checkpoint's config has no name; give one with --name")
    folder = Path(args.output_dir)
    check_name(name)
    entries = [write_shareable(shareable, folder, stem=stem, kind=kind) for kind in args.formats]
    weights = "moving averages" if shareable.moving_averages else "weights"
    print(f"From {printable(str(shareable.source))} the {weights}:", file=sys.stderr)
    for entry in entries:
        print(f"  {printable(entry.url)} ({entry.size / 1e6:.1f} MB)", file=sys.stderr)
    entry = dataclasses.replace(
        entries[0],
        name=name,
        url=_url(Path(entries[0].url), args.url_prefix, args.index),
        licence=args.licence,
        training_log=args.training_log,
    )
    if args.index is not None:
        append_entry(args.index, entry, replace=args.force)
    return entry


def _describe(config: str, overrides: Sequence[str]) -> ModelInfo:
    cfg = load_experiment(config, overrides)
    fill_num_classes(cfg)
    try:
        names = class_names(cfg)
    except InputError:
        # The data set is not on this machine; the checkpoint may know.
        names = ()
    return model_info_from_lazy(cfg, config_name=config, class_names=names)


def _url(path: Path, prefix: str | None, index: Path | None) -> str:
    if prefix is not None:
        return f"{prefix.rstrip('/')}/{quote(path.name)}"
    return os.path.relpath(path, index.parent) if index is not None else path.name


def _metric(text: str) -> tuple[str, float]:
    name, _, value = text.partition("=")
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not name or not math.isfinite(number):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE with a number")
    return name, number


if __name__ == "__main__":
    sys.exit(main())
