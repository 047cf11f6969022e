"""The number that says which model of a training is best."""

import difflib

from detectron2.data import MetadataCatalog
from omegaconf import DictConfig, OmegaConf

from smca.errors import InputError
from smca.evaluation import CocoEvaluator
from smca.experiments.targets import find_target

_PRECISIONS = ("AP", "AP50", "AP75", "APs", "APm", "APl")
_RECALLS = ("AR1", "AR10", "ARs", "ARm", "ARl")


def best_metric(train: DictConfig) -> str:
    """Its flat name, of the averaged weights where there are some and the config names none."""
    return train.evaluation.metric or ("bbox_ema/AP" if train.ema.enabled else "bbox/AP")


def check_metric(cfg: DictConfig) -> None:
    """What an evaluator of one's own gives is not known before; of ours it is.

    Raises:
        InputError: if no evaluation will give ``train.evaluation.metric``.
    """
    evaluator, metric = cfg.dataloader.get("evaluator"), cfg.train.evaluation.metric
    if metric is None or OmegaConf.select(cfg, "dataloader.evaluator._target_") is None:
        return
    if find_target(evaluator["_target_"]) is not CocoEvaluator:
        return
    groups = ("bbox", "bbox_ema") if cfg.train.ema.enabled else ("bbox",)
    limit = evaluator.get("max_dets_per_image") or 100
    classes = MetadataCatalog.get(str(evaluator.dataset_name)).get("thing_classes")
    names = [*_PRECISIONS, *_RECALLS, f"AR{limit}", *(f"AP-{name}" for name in classes or ())]
    group, _, name = metric.partition("/")
    # Without names in the catalog those of the annotation file count.
    is_known = name in names or (classes is None and name.startswith("AP-"))
    if group in groups and is_known:
        return
    if group == "bbox_ema" and is_known:
        hint = "averaged weights need train.ema.enabled=True"
    else:
        lower = {n.lower(): n for n in names}
        last = metric.rpartition("/")[2].lower()
        near = difflib.get_close_matches(last, lower, n=1, cutoff=0.6)
        hint = f"there are {', '.join(f'bbox/{n}' for n in names[:7])}, ..."
        hint = f"the nearest is bbox/{lower[near[0]]}" if near else hint
    raise InputError(f"train.evaluation.metric={metric!r} is no number of this evaluation: {hint}")
