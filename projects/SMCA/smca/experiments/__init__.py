from .config_file import (
    DATA_TEMPLATES,
    get_config,
    get_config_file,
    list_configs,
    load_config_file,
    load_experiment,
)
from .overrides import apply_overrides

__all__ = [
    "DATA_TEMPLATES",
    "apply_overrides",
    "get_config",
    "get_config_file",
    "list_configs",
    "load_config_file",
    "load_experiment",
]
