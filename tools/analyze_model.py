#!/usr/bin/env python
"""Parameters, GFLOPs, activation memory and time of models, beside the paper's numbers.

    python tools/analyze_model.py smca_r50_50ep detr_r50_500ep
    python tools/analyze_model.py --all --markdown
    python tools/analyze_model.py --config-file my_config.py --latency

Counting needs neither weights nor a GPU. ``--latency`` times untrained models in turns with
published DETR.
"""

import argparse
import json
import re
import sys
from pathlib import Path

from omegaconf import DictConfig

from smca.analysis import PAPER, analyze_experiments, as_data, describe_environment, format_tables
from smca.device import find_device
from smca.errors import InputError
from smca.experiments import list_configs, load_experiment
from smca.whole_file import replacing


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    # fmt: off
    add = parser.add_argument
    add("names", nargs="*", metavar="NAME", help="experiments of the model zoo, or files of your own")
    add("--all", action="store_true", help="every experiment of the model zoo")
    add("--config-file", metavar="F", help="a LazyConfig of your own")
    add("--input-size", type=image_size, metavar="HxW",
        help="pixels (default: a 4:3 image at the config's test size, for COCO 800x1066)")
    add("--num-classes", type=int, default=80, metavar="N",
        help="of configs that take theirs from your data (default: %(default)s, as COCO has)")
    add("--latency", action="store_true", help="measure the time per image too")
    add("--repeat", type=int, default=10, metavar="N", help="timed rounds (default: %(default)s)")
    add("--device", default="auto", help="for --latency: auto, cpu, cuda, cuda:1")
    add("--markdown", action="store_true", help="write markdown tables")
    add("--json", type=Path, metavar="FILE", help="also write the numbers to FILE")
    # fmt: on
    return parser


def image_size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not HxW in pixels, such as 800x1066")
    return int(match[1]), int(match[2])


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if not (args.names or args.all or args.config_file):
        parser.error("name an experiment, or give --all or --config-file")
    if args.num_classes < 1:
        parser.error(f"--num-classes must be at least 1, got {args.num_classes}")
    if args.repeat < 1:
        parser.error(f"--repeat must be at least 1, got {args.repeat}")
    try:
        device = find_device(args.device, option="--device")
        experiments = analyze_experiments(
            _configs(args),
            size=args.input_size,
            latency_repeat=args.repeat if args.latency else 0,
            device=device,
        )
        print(format_tables(experiments, markdown=args.markdown))
        print(f"\nRun on {describe_environment(device)}.")
        if args.json:
            content = json.dumps(as_data(experiments, device), indent=2)
            with replacing(args.json) as partial:
                partial.write_text(f"{content}\n")
    except (InputError, OSError) as error:
        print(f"analyze_model.py: {error}", file=sys.stderr)
        return 1
    return 0


def _configs(args: argparse.Namespace) -> dict[str, DictConfig]:
    names = list(args.names)
    if args.all:
        known = list_configs()
        names += [name for name in PAPER if name in known]
        names += [name for name in known if name not in PAPER]
    if args.config_file:
        names.append(args.config_file)
    configs = {name: load_experiment(name) for name in names}
    for config in configs.values():
        if "num_classes" in config.model and config.model.num_classes is None:
            config.model.num_classes = args.num_classes
    return configs


if __name__ == "__main__":
    sys.exit(main())
