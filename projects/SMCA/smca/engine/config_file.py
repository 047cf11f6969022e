import difflib
from pathlib import Path

from detectron2.config import LazyConfig
from omegaconf import DictConfig

REQUIRED = ("model", "dataloader", "optimizer", "lr_multiplier", "train")


def load_config_file(path: str) -> DictConfig:
    """Load an experiment, written as a python LazyConfig.

    Raises:
        ValueError: if the file does not exist, cannot be read, or lacks one of the parts of an experiment.
    """
    file = Path(path)
    if not file.is_file():
        siblings = [str(p) for p in file.parent.glob("[!_]*.py")]
        near = difflib.get_close_matches(path, siblings, n=1, cutoff=0.6)
        hint = f"did you mean {near[0]}?" if near else "see configs/ for what there is"
        raise ValueError(f"config file {path!r} does not exist; {hint}")
    if file.suffix != ".py":
        raise ValueError(f"config file {path}: a LazyConfig is a .py file, got {file.suffix!r}")
    try:
        cfg = LazyConfig.load(str(file))
    except (SyntaxError, ImportError, AttributeError, NameError, TypeError) as error:
        raise ValueError(f"config file {path} cannot be loaded: {error}") from error
    missing = [name for name in REQUIRED if name not in cfg]
    if missing:
        raise ValueError(
            f"config file {path} defines no {missing[0]!r}, so it is no whole experiment"
        )
    return cfg
