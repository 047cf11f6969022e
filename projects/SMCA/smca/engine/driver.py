"""What ``train_net.py`` does with an experiment, for other commands that train, too."""

import argparse
import contextlib
import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from detectron2.evaluation import print_csv_format
from detectron2.utils import comm

from smca.device import find_device
from smca.engine.run.log import held_back, set_up_log, tell
from smca.engine.run.run_directory import has_checkpoint, set_earlier_run_aside
from smca.engine.run.run_lock import lock_run, unlock_runs
from smca.engine.run.run_settings import CONFIG, record_start
from smca.engine.settings.setting_checks import check_settings
from smca.errors import InputError
from smca.experiments import load_experiment
from smca.main_process import run_on_main

from .inputs import RunInputs
from .launcher import launch
from .stop_signal import TrainingInterrupted
from .training import evaluate_only, prepare_training

EXPECTED = (InputError, OSError)
"""What is told in one sentence; any other error is a fault of code and keeps its traceback."""


AfterTraining = Callable[[RunInputs], None]
"""What is done at the end of a training, in every process; for processes of its own it must be a module's function."""


def run_command(args: argparse.Namespace, *, after_training: AfterTraining | None = None) -> None:
    """Train or evaluate in as many processes as are asked for, and exit with a sentence where that is not possible.

    Args:
        args: of Detectron2's ``default_argument_parser``; ``config_file`` may be a name of the zoo.
        after_training: called with the inputs of a training that came to its end.
    """
    with told_in_one_sentence("train_net.py"):
        cfg = load_experiment(args.config_file, args.opts)
        check_settings(cfg, training=not args.eval_only)
        launch(
            run_process,
            args=(args, after_training),
            device=find_device(cfg.train.device, option="train.device").type,
            num_processes=args.num_gpus,
            num_machines=args.num_machines,
            machine_rank=args.machine_rank,
            dist_url=args.dist_url,
        )


def run_process(args: argparse.Namespace, after_training: AfterTraining | None = None) -> None:
    """One process of :func:`run_command`."""
    with told_in_one_sentence("train_net.py"):
        cfg = load_experiment(args.config_file, args.opts)
        inputs = RunInputs(cfg, training=not args.eval_only)
        start_run(inputs, resume=args.resume, arguments=args)
        if args.eval_only:
            print_csv_format(evaluate_only(inputs, resume=args.resume))
        else:
            trainer, start, stop = prepare_training(inputs, resume=args.resume)
            trainer.train(start, stop)
            if after_training is not None:
                after_training(inputs)


@contextlib.contextmanager
def told_in_one_sentence(command: str) -> Iterator[None]:
    """End the process with one sentence for what is expected to go wrong, and for a signal that asked it to stop."""
    try:
        yield
    except EXPECTED as error:
        # What the main process failed at it tells for all.
        sys.exit(1 if getattr(error, "is_told", False) else f"{command}: {error}")
    except TrainingInterrupted as interrupted:
        if comm.is_main_process():
            print(f"{command}: {interrupted}", file=sys.stderr, flush=True)
        sys.exit(128 + interrupted.signum)
    finally:
        unlock_runs()


class Start(NamedTuple):
    """How a run begins.

    Attributes:
        resuming: whether there is a checkpoint that it goes on from.
        aside: where an earlier run was moved to, if there was one.
    """

    resuming: bool
    aside: Path | None


def start_run(
    inputs: RunInputs,
    *,
    resume: bool,
    arguments: argparse.Namespace | None = None,
    terminal: Callable[[logging.Handler], None] | None = None,
) -> Start:
    """Check everything, then make the output directory this run's and begin its log; to be called by all processes.

    Args:
        inputs: of the run.
        resume: whether the last checkpoint in the output directory, if any, is gone on from or evaluated.
        arguments, terminal: see :func:`~smca.engine.run.log.set_up_log`.

    Raises:
        InputError: one sentence that says what to mend; nothing was written or moved.
    """
    # The config may lie in the directory that the main process clears next.
    comm.synchronize()
    with held_back() as said:
        start = run_on_main(lambda: _check_and_take_directory(inputs, resume))
    with _naming_directory(inputs):
        set_up_log(inputs.cfg, arguments=arguments, terminal=terminal)
    tell(said)
    return start


def _check_and_take_directory(inputs: RunInputs, resume: bool) -> Start:
    """Leave no two trainings in one output directory, and the record of the run that is resumed or evaluated."""
    inputs.check(resume=resume)
    folder = Path(inputs.cfg.train.output_dir)
    with _naming_directory(inputs):
        folder.mkdir(parents=True, exist_ok=True)
        if inputs.training:
            lock_run(folder)
        # One that ended before its first checkpoint cannot be gone on with.
        start = Start(resume and has_checkpoint(folder), None)
        if inputs.training and not start.resuming:
            start = start._replace(aside=set_earlier_run_aside(str(folder)))
            record_start(inputs.cfg)
        elif not (folder / CONFIG).is_file():
            record_start(inputs.cfg)
    if start.aside is not None:
        print(f"{folder} held an earlier run, now in {start.aside}", flush=True)
    return start


@contextlib.contextmanager
def _naming_directory(inputs: RunInputs) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(
            f"train.output_dir={inputs.cfg.train.output_dir} cannot be written ({error.strerror or error}); make room "
            "or give another one"
        ) from error
