from .config_file import load_config_file
from .overrides import apply_overrides
from .param_groups import get_param_groups
from .run_directory import has_checkpoint, set_earlier_run_aside
from .schedule import EpochSchedule, iteration_of_epoch
from .trainer import Trainer
from .training import check_inputs, evaluate_only, prepare_training

__all__ = [
    "EpochSchedule",
    "Trainer",
    "apply_overrides",
    "check_inputs",
    "evaluate_only",
    "get_param_groups",
    "has_checkpoint",
    "iteration_of_epoch",
    "load_config_file",
    "prepare_training",
    "set_earlier_run_aside",
]
