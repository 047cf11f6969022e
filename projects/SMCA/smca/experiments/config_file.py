"""An experiment by its name in the zoo or from a file: a LazyConfig in python, or the yaml that a run leaves of it."""

import builtins
import difflib
import traceback
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import yaml
from detectron2.config import LazyConfig
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from smca.description.allowed_targets import allow_targets_of
from smca.description.model_upgrade import up_to_date
from smca.errors import InputError

from .overrides import apply_overrides

BASE_DIRECTORIES = ("common", "models")
"""Folders of shared parts, which are no experiments of their own."""

DATA_TEMPLATES = ("custom_coco", "custom_coco_small", "digits/custom_coco", "digits/fine_tune")
"""Experiments that lack the user's data, and with it the number of classes."""

REQUIRED = ("model", "dataloader", "optimizer", "lr_multiplier", "train")

_YAML = (".yaml", ".yml")
_LATER = {"early_stopping": {"patience": None, "min_delta": 0.0}, "writers": []}
"""Fields of ``train`` that came after version 0.1, in whose configs they are missing."""


def load_experiment(name_or_file: str, overrides: Sequence[str] = ()) -> DictConfig:
    """An experiment with fields set: what every command does with its config.

    Args:
        name_or_file: a name of the zoo such as "digits/smca", a LazyConfig's .py file, or the ``config.yaml`` of a run.
        overrides: ``key=value``, see :func:`~smca.experiments.apply_overrides`.

    Raises:
        InputError: as :func:`get_config`, :func:`load_config_file` and :func:`~smca.experiments.apply_overrides`.
    """
    file = Path(name_or_file)
    is_file = file.suffix in (".py", *_YAML) or file.is_file()
    cfg = (load_config_file if is_file else get_config)(name_or_file)
    apply_overrides(cfg, overrides)
    allow_targets_of(cfg.model)
    return cfg


def list_configs() -> list[str]:
    """Names of all experiments, such as "smca_r50_50ep" or "ablations/encoder_3multi", without ``DATA_TEMPLATES``."""
    root = _config_root()
    names = (path.relative_to(root).with_suffix("") for path in root.rglob("*.py"))
    return sorted(
        name.as_posix()
        for name in names
        if name.parts[0] not in BASE_DIRECTORIES
        and name.name != "__init__"
        and name.as_posix() not in DATA_TEMPLATES
    )


def get_config_file(name: str) -> str:
    """Path of an experiment's file.

    Raises:
        InputError: if there is no such experiment, naming the nearest ones.
    """
    names = [*list_configs(), *DATA_TEMPLATES]
    if name not in names:
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.4)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(names)}"
        raise InputError(f"no config named {name!r} in the model zoo; {hint}")
    return str(_config_root() / f"{name}.py")


def get_config(name: str) -> DictConfig:
    """The experiment's LazyConfig: model, dataloader, optimizer, lr_multiplier and train.

    Raises:
        InputError: as :func:`get_config_file`.
    """
    return load_config_file(get_config_file(name))


def load_config_file(path: str) -> DictConfig:
    """Load an experiment, written as a python LazyConfig, or as the ``config.yaml`` of a run.

    Either is code that one trusts: python runs when it is loaded, and what ``_target_`` names is called when its part
    is built, from here on also where a checkpoint names it. Reading yaml itself runs nothing.

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
        # Detectron2's own says that there is one in the syntax, its cause which and where.
        syntax = error.__cause__ if isinstance(error.__cause__, SyntaxError) else None
        line, reason = (
            (syntax.lineno, syntax.msg) if syntax else (_line_of(error, str(file)), error)
        )
        where = f", line {line}" if line else ""
        raise InputError(f"config file {path}{where} cannot be loaded: {reason}") from error
    finally:
        # Detectron2 replaces it while it loads, and leaves it so when a config fails.
        builtins.__import__ = import_before
    missing = [name for name in REQUIRED if not isinstance(cfg.get(name), DictConfig)]
    if missing:
        raise InputError(
            f"config file {path} defines no {missing[0]!r}, so it is no whole experiment"
        )
    for name, default in _LATER.items():
        if name not in cfg.train:
            cfg.train[name] = default
    allow_targets_of(cfg.model)
    return cfg


def _line_of(error: BaseException, file: str) -> int | None:
    """The last line of a file that an error came through."""
    frames = traceback.extract_tb(error.__traceback__)
    return next((frame.lineno for frame in reversed(frames) if frame.filename == file), None)


def _config_root() -> Path:
    """``configs/`` of an installation (``smca.configs``) or, without one, of the source tree."""
    try:
        return Path(str(resources.files("smca.configs")))
    except ModuleNotFoundError:
        return Path(__file__).resolve().parents[4] / "configs"


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
