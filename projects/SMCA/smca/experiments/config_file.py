"""An experiment from a file: a LazyConfig in python, or the yaml that a run leaves of it."""

import builtins
import difflib
from pathlib import Path

import yaml
from detectron2.config import LazyConfig
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from smca.description.model_upgrade import up_to_date
from smca.errors import InputError

_YAML = (".yaml", ".yml")
REQUIRED = ("model", "dataloader", "optimizer", "lr_multiplier", "train")


def load_config_file(path: str) -> DictConfig:
    """Load an experiment, written as a python LazyConfig, or as the ``config.yaml`` of a run.

    Either is code that one trusts: python runs when it is loaded, and what ``_target_`` names is called when its part
    is built. Reading yaml itself runs nothing.

    Raises:
        InputError: if the file does not exist, cannot be read, or lacks one of the parts of an experiment.
    """
    file = Path(path)
    if not file.is_file():
        siblings = [str(p) for p in file.parent.glob("[!_]*.py")]
        near = difflib.get_close_matches(path, siblings, n=1, cutoff=0.6)
        hint = f"did you mean {near[0]}?" if near else "see configs/ for what there is"
        raise InputError(f"config file {path!r} does not exist; {hint}")
    if file.suffix not in (".py", *_YAML):
        raise InputError(
            f"config file {path}: a LazyConfig is a .py file, or the config.yaml of a run, got {file.suffix!r}"
        )
    import_before = builtins.__import__
    try:
        cfg = _load_yaml(file) if file.suffix in _YAML else LazyConfig.load(str(file))
    except (SyntaxError, ImportError, AttributeError, NameError, TypeError) as error:
        raise InputError(f"config file {path} cannot be loaded: {error}") from error
    finally:
        # Detectron2 replaces it while it loads, and leaves it so when a config fails.
        builtins.__import__ = import_before
    missing = [name for name in REQUIRED if not isinstance(cfg.get(name), DictConfig)]
    if missing:
        raise InputError(
            f"config file {path} defines no {missing[0]!r}, so it is no whole experiment"
        )
    return cfg


def _load_yaml(file: Path) -> DictConfig:
    """Plain data only: ``LazyConfig.load`` would make any python object that the file names."""
    try:
        content = OmegaConf.create(file.read_text(encoding="utf-8"))
    except yaml.constructor.ConstructorError as error:
        raise InputError(
            f"config file {file} holds more than plain data ({error.problem}), which could run code and is not read; "
            "give the .py file that it was made from"
        ) from error
    except (yaml.YAMLError, OmegaConfBaseException, UnicodeDecodeError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"config file {file} is no readable yaml: {reason}") from error
    if not isinstance(content, DictConfig):
        raise InputError(f"config file {file} holds no fields by name, so it is no experiment")
    plain = OmegaConf.to_container(content)
    plain["model"] = up_to_date(plain.get("model"))
    return OmegaConf.create(plain, flags={"allow_objects": True})
