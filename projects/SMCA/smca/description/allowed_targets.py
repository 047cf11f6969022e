"""Which callables a config that came with a checkpoint may name: the parts of the models shipped here, and no others.

A config is data, but ``_target_`` names what is called with it, so that a stranger's config could run anything. Names
are compared before anything is imported.
"""

from typing import Any

from detectron2.utils.registry import _convert_target_to_string
from omegaconf import OmegaConf

from smca.errors import InputError
from smca.text import clip, printable

_PARTS = {
    "smca.modeling.backbone": ("TimmBackbone", "build_resnet"),
    "smca.modeling.classification": ("CrossEntropyClassification", "FocalClassification"),
    "smca.modeling.criterion": ("SetCriterion",),
    "smca.modeling.decoder": ("Decoder", "LearnedQueries"),
    "smca.modeling.decoder_layer": ("DecoderLayer", "LevelCoAttention"),
    "smca.modeling.deformable.co_attention": ("DeformableCoAttention",),
    "smca.modeling.deformable.encoder": ("DeformableEncoder",),
    "smca.modeling.deformable.heads": ("DeformableHeads",),
    "smca.modeling.deformable.queries": ("ContentQueries", "ProposalQueries"),
    "smca.modeling.deformable.sampling": ("ReferenceSampling",),
    "smca.modeling.encoder": ("Encoder",),
    "smca.modeling.heads": ("DetectionHeads",),
    "smca.modeling.matcher": ("HungarianMatcher",),
    "smca.modeling.modulation": ("SpatialModulation",),
    "smca.modeling.neck": ("Neck",),
    "smca.modeling.plus.anchors": ("AnchorQueries",),
    "smca.modeling.plus.box_modulation": ("BoxModulation",),
    "smca.modeling.plus.denoising": ("DenoisingQueries",),
    "smca.modeling.plus.groups": ("GroupedQueries",),
    "smca.modeling.plus.iou_classification": ("IouClassification",),
    "smca.modeling.plus.reference_position": ("ReferencePosition",),
    "smca.modeling.plus.refinement": ("BoxRefinement",),
    "smca.modeling.plus.selection": ("SelectedQueries",),
    "smca.modeling.postprocess": ("Postprocessor",),
    "smca.modeling.smca_detr": ("SMCA",),
    "detectron2.layers.shape_spec": ("ShapeSpec",),
    "detectron2.modeling.anchor_generator": ("DefaultAnchorGenerator",),
    "detectron2.modeling.backbone.fpn": ("FPN", "LastLevelMaxPool"),
    "detectron2.modeling.backbone.resnet": ("BasicStem", "ResNet", "ResNet.make_default_stages"),
    "detectron2.modeling.box_regression": ("Box2BoxTransform",),
    "detectron2.modeling.matcher": ("Matcher",),
    "detectron2.modeling.meta_arch.rcnn": ("GeneralizedRCNN",),
    "detectron2.modeling.poolers": ("ROIPooler",),
    "detectron2.modeling.proposal_generator.rpn": ("RPN", "StandardRPNHead"),
    "detectron2.modeling.roi_heads.box_head": ("FastRCNNConvFCHead",),
    "detectron2.modeling.roi_heads.fast_rcnn": ("FastRCNNOutputLayers",),
    "detectron2.modeling.roi_heads.roi_heads": ("StandardROIHeads",),
}


def names_of(module: str, name: str) -> list[str]:
    """``a.b.name`` and ``a.name`` of ``a.b`` and ``name``: a package may export what its modules define."""
    packages = module.split(".")
    return [".".join((*packages[:depth], name)) for depth in range(1, len(packages) + 1)]


_ALLOWED = {
    target
    for module, names in _PARTS.items()
    for name in names
    for target in names_of(module, name)
}


# Far beyond what models have.
_LONGEST_LIST = 100
_LARGEST = 1e9
_LARGEST_COUNT = 100_000
_COUNTS = ("embed_dim", "ffn_dim", "stem_channels", "out_channels", "fc_dims", "conv_dims")
_LARGEST_OF = {
    "num_queries": 5000,
    "num_denoising": 5000,
    "num_groups": 100,
    "num_coordinates": 4,
    "num_layers": 100,
    "num_levels": 32,
    "num_points": 100,
    "num_conv": 100,
    "num_convs": 100,
}


def allow_target(name: str) -> None:
    """Trust a callable of your own in configs that come with checkpoints, for the rest of this process.

    Args:
        name: dotted, as ``_target_`` has it, such as "my_package.heads.MyHead".
    """
    _ALLOWED.add(name)


def allow_targets_of(model: Any) -> None:
    """Trust every ``_target_``, by name or as the callable, of a config that this process loaded for its user."""
    for _, node in _nodes(model, "model"):
        target = node.get("_target_") if isinstance(node, dict) else None
        if callable(target):
            target = _convert_target_to_string(target)
        if isinstance(target, str):
            allow_target(target)


def check_targets(model: Any) -> None:
    """Look at every node of a config that may be a stranger's, before any of it is built.

    Args:
        model: the ``model`` node as plain dicts, lists, strings and numbers.

    Raises:
        InputError: for a ``_target_`` that is not trusted, an interpolation, or anything that is not plain data.
    """
    if not isinstance(model, dict) or "_target_" not in model:
        raise InputError("its config names no model (it has no _target_)")
    for path, node in _nodes(model, "model"):
        if isinstance(node, dict):
            _check_keys(node, path)
        elif isinstance(node, str) and "${" in node:
            raise InputError(
                f"its config has an interpolation in {path}, which is not followed: {node[:80]!r}"
            )
        elif isinstance(node, int | float):
            _check_number(node, path)
        elif isinstance(node, list) and len(node) > _LONGEST_LIST:
            raise InputError(f"its config has a list of {len(node)} entries in {path}")
        elif not isinstance(node, list | str | None):
            raise InputError(f"its config has a {type(node).__name__} in {path}, not plain data")


def _check_number(value: float, path: str) -> None:
    """What no model has would take hours or all memory to build, before its weights could be compared."""
    name = path.rpartition(".")[2].partition("[")[0]
    is_count = name.startswith("num_") or name in _COUNTS
    largest = _LARGEST_OF.get(name, _LARGEST_COUNT if is_count else _LARGEST)
    if not abs(value) <= largest or (is_count and (value < 0 or type(value) is not int)):
        raise InputError(f"its config has {str(value)[:20]} in {path}, which no model has")


def _check_keys(node: dict, path: str) -> None:
    for key in node:
        if not isinstance(key, str):
            raise InputError(f"its config has a key in {path} that is no text: {key!r}")
    if "_target_" not in node:
        return
    target = node["_target_"]
    if not isinstance(target, str) or target not in _ALLOWED:
        raise InputError(
            f"its config names {str(target)[:80]!r} in {path}._target_, which is no part of the models of this "
            "project and is not called; if it is yours and you trust the file, give its config (a .py file), or call "
            "smca.checkpoint.allow_target with that name first"
        )
    if "cfg" in node:
        # Detectron2's classes take a whole other config there.
        raise InputError(f"its config has a config of its own in {path}.cfg, which is not followed")


def _nodes(model: Any, name: str) -> list[tuple[str, Any]]:
    """(path, node) of all nodes; without recursion, which a hostile config could exhaust."""
    if OmegaConf.is_config(model):
        model = OmegaConf.to_container(model)
    found, waiting = [], [(name, model)]
    while waiting:
        path, node = waiting.pop()
        found.append((path, node))
        if isinstance(node, dict):
            waiting.extend(
                (f"{path}.{clip(printable(str(key)), 50)}", value) for key, value in node.items()
            )
        elif isinstance(node, list | tuple):
            waiting.extend((f"{path}[{i}]", value) for i, value in enumerate(node))
    return found
