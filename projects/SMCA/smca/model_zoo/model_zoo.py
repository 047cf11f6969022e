import difflib

from detectron2.config import CfgNode, instantiate
from torch import nn

from smca.checkpoint import load_described, model_info_from_lazy, read_model_file
from smca.checkpoint.loading.predictor_weights import misfit_with_model, read_predictor_weights
from smca.config import cfg_from_lazy, lazy_model_from_cfg
from smca.errors import InputError
from smca.experiments import DATA_TEMPLATES, get_config, get_config_file

from .architecture import warn_of_another_architecture
from .index import ZooEntry, all_entries, find_entry
from .weights import local_file


def get_cfg(name: str, weights: str = "") -> CfgNode:
    """A CfgNode for Detectron2's ``DefaultPredictor`` and ``build_model``, derived from the LazyConfig.

    Args:
        name: an experiment.
        weights: checkpoint file, or "smca://" and the name of published weights. If it describes its model, as every
            training here writes it, that model, its number of classes and their names are taken; where it is not the
            experiment's, a warning says how it differs. One that cannot be read is refused when a model is built.
            Without weights, here or later in ``cfg.MODEL.WEIGHTS``, the model stays as initialised.

    Raises:
        InputError: if there is no such experiment, if the weights would leave parts of the model as initialised, or if
            its number of classes is known neither from them nor from the experiment.
    """
    lazy = get_config(name)
    needs_file = name in DATA_TEMPLATES
    try:
        file = read_predictor_weights(weights, must_exist=needs_file)
    except InputError:
        if needs_file:
            raise
        # Building a model says it, also of weights that are put into a CfgNode later.
        file = None
    info = None if file is None else file.info
    if info is None:
        has = f"{weights} does not describe its model, " if weights else ""
        _check_has_classes(name, f"{has}give weights=..., a checkpoint that describes its model")
    cfg = cfg_from_lazy(lazy, name=name, weights=weights, info=info)
    if info is not None:
        warn_of_another_architecture(name, lazy.model, weights, info)
    if file is not None:
        misfit = misfit_with_model(file, lazy_model_from_cfg(cfg))
        if misfit:
            raise InputError(f"weights {weights} do not fill the model of {name}: {misfit}")
    return cfg


def get(name: str, trained: bool = False) -> nn.Module:
    """A model of the zoo, on the CPU and in training mode, as Detectron2's zoo returns it.

    Args:
        name: an experiment; with ``trained`` any name of an index of weights.
        trained: load its published weights.

    Raises:
        InputError: with ``trained=True`` where none are published, or they cannot be fetched, or do not fit.
    """
    if not trained:
        _check_has_classes(name, "load a checkpoint with smca.Predictor, or train with data.* set")
        return instantiate(get_config(name).model)
    entry = _published(name)
    path = local_file(entry)
    file = read_model_file(path)
    info = file.info
    if info is None and entry.config:
        info = model_info_from_lazy(get_config(entry.config))
    if info is None:
        raise InputError(f"{path} does not describe its model, and the index names no config of it")
    try:
        return load_described(info, file).train()
    except InputError as error:
        raise InputError(f"{path} does not fit the model of {name!r}: {error}") from error


def get_checkpoint_url(name: str) -> str:
    """Where trained weights are: an address, or the path of a file.

    Raises:
        InputError: if none are published under the name.
    """
    return _published(name).url


def _check_has_classes(name: str, advice: str) -> None:
    if name in DATA_TEMPLATES:
        raise InputError(f"config {name} takes its number of classes from your data: {advice}")


def _published(name: str) -> ZooEntry:
    entries = all_entries()
    if name not in entries and not difflib.get_close_matches(name, entries):
        # An experiment that there is gets another answer than a name that there isn't.
        get_config_file(name)
    return find_entry(name)
