#!/usr/bin/env python
"""Train or evaluate a LazyConfig experiment.

    python train_net.py --config-file configs/smca_r50_50ep.py --num-gpus 8
    torchrun --nproc-per-node 8 train_net.py --config-file configs/smca_r50_50ep.py
    python train_net.py --config-file configs/smca_r50_50ep.py --eval-only train.init_checkpoint=model.pth

Fields of the config are overridden with ``key=value`` at the end of the command line, ``+key=value`` adds one.
Without CUDA, or with train.device=cpu, --num-gpus is the number of processes. SIGTERM, SIGUSR1 and Ctrl-C save a
checkpoint and end the training; --resume goes on from it.
"""

import argparse
import contextlib
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

from detectron2.engine import default_argument_parser, default_setup
from detectron2.evaluation import print_csv_format
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger
from omegaconf import DictConfig

import smca  # noqa: F401 - registers the model and the data sets
from smca.data import DigitsError, fill_num_classes
from smca.device import find_device
from smca.engine import (
    TrainingInterrupted,
    apply_overrides,
    check_inputs,
    evaluate_only,
    launch,
    load_config_file,
    prepare_training,
    run_on_main,
    set_earlier_run_aside,
)

EXPECTED = (ValueError, ImportError, DigitsError, OSError, FloatingPointError)


def main(args: argparse.Namespace) -> None:
    try:
        cfg = setup(args)
        if args.eval_only:
            print_csv_format(evaluate_only(cfg, resume=args.resume))
            return
        trainer, start, stop = prepare_training(cfg, resume=args.resume)
        trainer.train(start, stop)
    except EXPECTED as error:
        # Loggers that cannot write any more would each print a traceback.
        logging.raiseExceptions = False
        # Every process fails the same way; one says why.
        sys.exit(f"train_net.py: {error}" if comm.is_main_process() else 1)
    except TrainingInterrupted as interrupted:
        if comm.is_main_process():
            print(f"train_net.py: {interrupted}", file=sys.stderr, flush=True)
        sys.exit(128 + interrupted.signum)


def setup(args: argparse.Namespace) -> DictConfig:
    """Read and check the config, then write it and the log to the output directory."""
    cfg = load_experiment(args)
    fill_num_classes(cfg)
    run_on_main(lambda: check_inputs(cfg, training=not args.eval_only, resume=args.resume))
    if comm.is_main_process() and not (args.eval_only or args.resume):
        aside = set_earlier_run_aside(cfg.train.output_dir)
        if aside is not None:
            print(f"{cfg.train.output_dir} held an earlier run, now in {aside}", flush=True)
    comm.synchronize()
    with kept(Path(cfg.train.output_dir) / "config.yaml", keep=args.eval_only):
        default_setup(cfg, args)
    setup_logger(cfg.train.output_dir, distributed_rank=comm.get_rank(), name="smca")
    return cfg


@contextlib.contextmanager
def kept(path: Path, *, keep: bool) -> Iterator[None]:
    """Undo what is written to a file inside: an evaluation must not change what a training says of itself."""
    before = path.read_bytes() if keep and path.is_file() else None
    yield
    if before is not None:
        path.write_bytes(before)


def load_experiment(args: argparse.Namespace) -> DictConfig:
    return apply_overrides(load_config_file(args.config_file), args.opts)


if __name__ == "__main__":
    arguments = default_argument_parser().parse_args()
    try:
        launch(
            main,
            args=(arguments,),
            device=find_device(load_experiment(arguments).train.device, option="train.device").type,
            num_processes=arguments.num_gpus,
            num_machines=arguments.num_machines,
            machine_rank=arguments.machine_rank,
            dist_url=arguments.dist_url,
        )
    except ValueError as error:
        sys.exit(f"train_net.py: {error}")
