"""The repository's scripts as modules."""

import importlib.util
from types import ModuleType

from .builders import ROOT


def load_train_net() -> ModuleType:
    """A module of its own every time, so that what a test changes in it stays there."""
    spec = importlib.util.spec_from_file_location("smca_train_net", ROOT / "train_net.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
