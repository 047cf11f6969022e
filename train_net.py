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
import logging
import sys
import warnings

from omegaconf import DictConfig

with warnings.catch_warnings():
    # Detectron2 0.6 and fvcore import what today's libraries deprecate.
    warnings.simplefilter("ignore")
    # Says that there is no GPU where CUDA_HOME is set.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    from detectron2.engine import default_argument_parser
    from detectron2.evaluation import print_csv_format
    from detectron2.utils import comm

    import smca  # noqa: F401 - registers the model and the data sets
    from smca.data import DigitsError, fill_num_classes
    from smca.device import find_device
    from smca.engine import (
        TrainingInterrupted,
        apply_overrides,
        check_inputs,
        evaluate_only,
        has_checkpoint,
        launch,
        load_config_file,
        lock_run,
        prepare_training,
        run_on_main,
        set_earlier_run_aside,
        set_up_output,
        unlock_runs,
    )
    from smca.engine.run.run_directory import cannot_write
    from smca.engine.settings.setting_checks import check_settings

# Here, and not only in a training: its processes import this before they join.
warnings.filterwarnings("ignore", category=FutureWarning)
warnings.filterwarnings("ignore", message="TypedStorage is deprecated")

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
        # What the main process failed at it tells for all.
        sys.exit(1 if getattr(error, "is_told", False) else f"train_net.py: {error}")
    except TrainingInterrupted as interrupted:
        if comm.is_main_process():
            print(f"train_net.py: {interrupted}", file=sys.stderr, flush=True)
        sys.exit(128 + interrupted.signum)
    finally:
        unlock_runs()


def setup(args: argparse.Namespace) -> DictConfig:
    """Read and check the config, then write it and the log to the output directory."""
    # Loggers that cannot write, to a full disk say, would print a traceback for each line.
    logging.raiseExceptions = False
    cfg = load_experiment(args)
    # The config may lie in the directory that the main process clears next.
    comm.synchronize()
    fill_num_classes(cfg)
    run_on_main(lambda: prepare_directory(cfg, args))
    resuming = args.resume and has_checkpoint(cfg.train.output_dir)
    set_up_output(cfg, args, keep_config=args.eval_only or resuming)
    return cfg


def prepare_directory(cfg: DictConfig, args: argparse.Namespace) -> None:
    """Check everything first, and leave no two trainings in one output directory."""
    check_inputs(cfg, training=not args.eval_only, resume=args.resume)
    if args.eval_only:
        return
    folder = cfg.train.output_dir
    try:
        lock_run(folder)
        # One that ended before its first checkpoint cannot be gone on with.
        resuming = args.resume and has_checkpoint(folder)
        aside = None if resuming else set_earlier_run_aside(folder)
    except OSError as error:
        raise cannot_write(folder, error) from error
    if aside is not None:
        print(f"{folder} held an earlier run, now in {aside}", flush=True)


def load_experiment(args: argparse.Namespace) -> DictConfig:
    """The config with the command's fields, before anything is done with it.

    Raises:
        ValueError: if it cannot be read, or a field cannot be right.
    """
    cfg = apply_overrides(load_config_file(args.config_file), args.opts)
    check_settings(cfg, training=not args.eval_only)
    return cfg


def build_parser() -> argparse.ArgumentParser:
    """Detectron2's, with examples of our own and a free port for the processes of one machine."""
    examples, details = __doc__.split("\n", 2)[2].split("\n\nFields", 1)
    parser = default_argument_parser(epilog=f"Examples:\n\n{examples}\n\nFields{details}")
    parser.description = __doc__.splitlines()[0]
    parser.set_defaults(dist_url="auto")
    helps = {
        "config_file": "experiment: a LazyConfig (.py), or the config.yaml of a run",
        "resume": "go on from the newest checkpoint of train.output_dir",
        "dist_url": "tcp://host:port of machine 0, if there are several",
        "opts": "fields of the config, as key=value",
    }
    for action in parser._actions:
        action.help = helps.get(action.dest, action.help)
    return parser


if __name__ == "__main__":
    arguments = build_parser().parse_args()
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
