from .model_zoo import get, get_cfg, get_checkpoint_url, get_config, get_config_file, list_configs

__all__ = ["get", "get_cfg", "get_checkpoint_url", "get_config", "get_config_file", "list_configs"]
