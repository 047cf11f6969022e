"""Parts beyond the paper, one function each; see docs/training.md for what they bring and cost.

``use_dynamic_boxes`` comes first; denoising and query selection need it, groups and IoU-aware classification do not.
"""

from detectron2.config import LazyCall as L
from omegaconf import DictConfig

from smca.modeling import LearnedQueries
from smca.modeling.plus import (
    AnchorQueries,
    BoxModulation,
    BoxRefinement,
    DenoisingQueries,
    GroupedQueries,
    IouClassification,
    ReferencePosition,
    SelectedQueries,
)


def use_dynamic_boxes(model: DictConfig) -> None:
    """A: queries start at learnt boxes, each layer moves them, and the prior follows.

    It leaves a field for each of B and C: ``decoder.queries.num_denoising`` and ``decoder.queries.queries.num_groups``.
    """
    decoder = model.decoder
    scale_selection = decoder.modulation.scale_selection
    decoder.modulation = L(BoxModulation)(
        embed_dim="${..embed_dim}",
        num_heads="${..num_heads}",
        num_layers="${..num_layers}",
        num_levels="${..num_levels}",
        scale_selection=scale_selection,
        typical_side=96.0,
    )
    decoder.queries = L(DenoisingQueries)(
        num_classes="${...num_classes}",
        embed_dim="${..embed_dim}",
        num_denoising=0,
        box_noise=0.4,
        label_noise=0.25,
        queries=L(GroupedQueries)(
            num_groups=1,
            queries=L(AnchorQueries)(
                num_queries="${....num_queries}",
                embed_dim="${....embed_dim}",
                initial_side=0.2,
                size_reference=None,
            ),
        ),
    )
    decoder.query_position = L(ReferencePosition)(embed_dim="${..embed_dim}", temperature=20.0)
    decoder.refinement = L(BoxRefinement)(
        embed_dim="${..embed_dim}",
        num_layers="${..num_layers}",
        share_layers=True,
        look_forward_twice=True,
    )
    model.heads.predict_boxes = False
    # What boxes are relative to from scratch is the anchors' affair now.
    decoder.queries.queries.queries.size_reference = model.heads.size_reference
    model.heads.size_reference = None


def use_denoising(model: DictConfig, *, num_denoising: int = 200) -> None:
    """B, after A: in training so many noised objects as further queries of each image."""
    model.decoder.queries.num_denoising = num_denoising


def use_groups(model: DictConfig, *, num_groups: int = 3) -> None:
    """C: in training so many groups of queries, each matched on its own."""
    if "queries" in model.decoder:
        model.decoder.queries.queries.num_groups = num_groups
        return
    model.decoder.queries = L(GroupedQueries)(
        num_groups=num_groups,
        queries=L(LearnedQueries)(num_queries="${...num_queries}", embed_dim="${...embed_dim}"),
    )


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
    """E, after A: queries start at the best boxes of the encoder's cells in the place of learnt ones."""
    model.decoder.queries.queries.queries = L(SelectedQueries)(
        num_queries="${....num_queries}",
        embed_dim="${....embed_dim}",
        num_classes="${.....num_classes}",
        classification="${.....classification}",
        cell_side=2.0,
    )


PARTS = {
    "A": use_dynamic_boxes,
    "B": use_denoising,
    "C": use_groups,
    "D": use_iou_classification,
    "E": use_query_selection,
}


def use_parts(model: DictConfig, parts: str) -> None:
    """Some of A to E in their order, such as "ABD", with the settings that they have by default."""
    for part in parts:
        PARTS[part](model)
