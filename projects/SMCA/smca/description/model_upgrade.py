"""Descriptions of models that an earlier version wrote, as this version writes them."""

from typing import Any

_POSTPROCESSORS = ("FocalPostprocessor", "SoftmaxPostprocessor")


def up_to_date(model: Any) -> Any:
    """A ``model`` node of plain containers; anything but a description by version 0.1 comes back as it is.

    There the heads, the criterion and the postprocessor each said for themselves how queries are classified, and the
    neck the shapes of the backbone's features.
    """
    criterion = model.get("criterion") if isinstance(model, dict) else None
    if not isinstance(criterion, dict) or "classification" in model:
        return model
    classification, heads, postprocessor = (
        criterion.get("classification"),
        model.get("heads"),
        model.get("postprocessor"),
    )
    if not all(isinstance(node, dict) for node in (classification, heads, postprocessor)):
        return model
    classification, heads, postprocessor = dict(classification), dict(heads), dict(postprocessor)
    heads.pop("no_object_class", None)
    prior_probability = heads.pop("prior_probability", None)
    if prior_probability is not None and _is(classification, "FocalClassification"):
        classification["prior_probability"] = prior_probability
    if _is(postprocessor, *_POSTPROCESSORS):
        postprocessor["_target_"] = "smca.modeling.Postprocessor"
    criterion = {**criterion, "classification": dict(classification)}
    if isinstance(criterion.get("matcher"), dict):
        criterion["matcher"] = {**criterion["matcher"], "classification": dict(classification)}
    neck = model.get("neck")
    if isinstance(neck, dict):
        # They follow from the backbone.
        neck = {k: v for k, v in neck.items() if k not in ("in_channels", "in_strides")}
    return {
        **model,
        "neck": neck,
        "classification": classification,
        "heads": {**heads, "classification": dict(classification)},
        "criterion": criterion,
        "postprocessor": {**postprocessor, "classification": dict(classification)},
    }


def _is(node: dict, *names: str) -> bool:
    return str(node.get("_target_")).rpartition(".")[2] in names
