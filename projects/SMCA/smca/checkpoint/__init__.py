from .convert_released import convert_released
from .initial_weights import frozen_norm_without_weights, load_initial_weights

__all__ = ["convert_released", "frozen_norm_without_weights", "load_initial_weights"]
