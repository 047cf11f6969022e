"""Training and evaluation of an experiment, in one or several processes."""

from smca.engine.run.checkpoints import CheckpointHook, CheckpointWriteError, RunCheckpointer
from smca.engine.run.run_directory import has_checkpoint, set_earlier_run_aside
from smca.engine.run.run_lock import lock_run, unlock_runs

from .averages import WeightAverage
from .driver import run_command, start_run, told_in_one_sentence
from .inputs import RunInputs
from .launcher import launch
from .nonfinite import NonFiniteError
from .precision import MixedPrecision
from .schedule import EpochSchedule, get_param_groups, iteration_of_epoch
from .stop_signal import TrainingInterrupted
from .trainer import Trainer
from .training import evaluate_only, prepare_training

__all__ = [
    "CheckpointHook",
    "CheckpointWriteError",
    "EpochSchedule",
    "MixedPrecision",
    "NonFiniteError",
    "RunCheckpointer",
    "RunInputs",
    "Trainer",
    "TrainingInterrupted",
    "WeightAverage",
    "evaluate_only",
    "get_param_groups",
    "has_checkpoint",
    "iteration_of_epoch",
    "launch",
    "lock_run",
    "prepare_training",
    "run_command",
    "set_earlier_run_aside",
    "start_run",
    "told_in_one_sentence",
    "unlock_runs",
]
