"""SMCA-DETR for Detectron2. Importing it registers the meta-architecture ``SMCA`` and the digits data sets."""

import importlib.util

if importlib.util.find_spec("detectron2") is None:
    raise ImportError(
        "smca needs Detectron2, which is not installed: run `smca-install-detectron2`, or install it by its own "
        "guide (https://detectron2.readthedocs.io/en/latest/tutorials/install.html) for compiled operators"
    )

from . import modeling
from .config import add_smca_config
from .data.builtin import register_digits
from .version import __version__

register_digits()

__all__ = ["__version__", "add_smca_config", "modeling"]
