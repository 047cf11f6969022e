#!/usr/bin/env python
"""Train or evaluate a LazyConfig experiment.

    python train_net.py --config-file configs/smca_r50_50ep.py --num-gpus 8
    python train_net.py --config-file configs/smca_r50_50ep.py --eval-only train.init_checkpoint=model.pth

Fields of the config are overridden with ``key=value`` at the end of the command line, ``+key=value`` adds one.
"""

import argparse
import sys

from detectron2.engine import default_argument_parser, default_setup, launch
from detectron2.evaluation import print_csv_format
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger
from omegaconf import DictConfig

import smca  # noqa: F401 - registers the model and the data sets
from smca.data import DigitsError
from smca.engine import (
    apply_overrides,
    check_inputs,
    evaluate_only,
    load_config_file,
    prepare_training,
    set_earlier_run_aside,
)


def main(args: argparse.Namespace) -> None:
    try:
        cfg = setup(args)
        if args.eval_only:
            print_csv_format(evaluate_only(cfg, resume=args.resume))
            return
        trainer, start, stop = prepare_training(cfg, resume=args.resume)
    except (ValueError, ImportError, DigitsError) as error:
        sys.exit(f"train_net.py: {error}")
    trainer.train(start, stop)


def setup(args: argparse.Namespace) -> DictConfig:
    """Read and check the config, then write it and the log to the output directory."""
    cfg = apply_overrides(load_config_file(args.config_file), args.opts)
    check_inputs(cfg, training=not args.eval_only, resume=args.resume)
    if comm.is_main_process() and not (args.eval_only or args.resume):
        aside = set_earlier_run_aside(cfg.train.output_dir)
        if aside is not None:
            print(f"{cfg.train.output_dir} held an earlier run, now in {aside}", flush=True)
    default_setup(cfg, args)
    setup_logger(cfg.train.output_dir, distributed_rank=comm.get_rank(), name="smca")
    return cfg


if __name__ == "__main__":
    arguments = default_argument_parser().parse_args()
    launch(
        main,
        arguments.num_gpus,
        num_machines=arguments.num_machines,
        machine_rank=arguments.machine_rank,
        dist_url=arguments.dist_url,
        args=(arguments,),
    )
