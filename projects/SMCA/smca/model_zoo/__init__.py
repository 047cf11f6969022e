from smca.experiments import get_config, get_config_file, list_configs

from .index import add_index
from .model_zoo import get, get_cfg, get_checkpoint_url
from .weights import resolve_weights

__all__ = [
    "add_index",
    "get",
    "get_cfg",
    "get_checkpoint_url",
    "get_config",
    "get_config_file",
    "list_configs",
    "resolve_weights",
]
