"""Parts beyond the paper that take more than one field to switch on."""

from detectron2.config import LazyCall as L
from omegaconf import DictConfig

from smca.modeling.plus import IouClassification, SelectedQueries


def use_iou_classification(model: DictConfig) -> None:
    """D, for any model with sigmoids: matched classes learn the IoU of the box, in the place of 1."""
    model.classification = L(IouClassification)(
        alpha=0.25,
        gamma=2.0,
        prior_probability=0.01,
        target_power=1.5,
        cost_power=0.0,
        negative_weight=1.0,
    )


def use_query_selection(model: DictConfig) -> None:
    """E, for models of smca_plus_single_scale.py: the encoder's best boxes in the place of learnt anchors."""
    model.decoder.queries.queries.queries = L(SelectedQueries)(
        num_queries="${....num_queries}",
        embed_dim="${....embed_dim}",
        num_classes="${.....num_classes}",
        classification="${.....classification}",
        cell_side=2.0,
    )
