from smca.engine.run.checkpoints import CheckpointHook, CheckpointWriteError, RunCheckpointer
from smca.engine.run.run_directory import has_checkpoint, set_earlier_run_aside
from smca.engine.run.run_lock import lock_run, unlock_runs
from smca.engine.run.run_settings import set_up_output
from smca.experiments.config_file import load_config_file
from smca.experiments.overrides import apply_overrides
from smca.main_process import run_on_main

from .ema import WeightAverage
from .inputs import check_inputs
from .launcher import launch
from .nonfinite import NonFiniteError
from .param_groups import get_param_groups
from .precision import MixedPrecision
from .schedule import EpochSchedule, iteration_of_epoch
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
    "Trainer",
    "TrainingInterrupted",
    "WeightAverage",
    "apply_overrides",
    "check_inputs",
    "evaluate_only",
    "get_param_groups",
    "has_checkpoint",
    "iteration_of_epoch",
    "launch",
    "load_config_file",
    "lock_run",
    "prepare_training",
    "run_on_main",
    "set_earlier_run_aside",
    "set_up_output",
    "unlock_runs",
]
