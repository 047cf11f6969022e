"""SMCA-DETR for Detectron2. Importing it registers the meta-architecture, the digits data sets and smca:// paths."""

import importlib.util
import warnings

if importlib.util.find_spec("detectron2") is None:
    raise ImportError(
        "smca needs Detectron2, which is not installed: run `smca-install-detectron2`, or install it by its own "
        "guide (https://detectron2.readthedocs.io/en/latest/tutorials/install.html) for compiled operators"
    )

with warnings.catch_warnings():
    # Detectron2 0.6 uses what PyTorch deprecates, which its users cannot change.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.jit")
    from smca import modeling
from smca.config import add_smca_config
from smca.data.digits.registration import register_digits
from smca.inference import Predictor
from smca.model_zoo.weights import register_zoo_paths
from smca.version import __version__

register_digits()
register_zoo_paths()

__all__ = ["Predictor", "__version__", "add_smca_config", "modeling"]
