"""Models of timm, an optional library, as givers of feature maps."""

import difflib
from collections.abc import Sequence

from torch import nn

from smca.errors import InputError


def build_features(
    name: str, *, strides: Sequence[int] | None = None, pretrained: bool = False
) -> nn.Module:
    """A timm model that gives feature maps.

    Args:
        name: of the model. Names of other places ("hf-hub:...", "local-dir:...") are not taken: a config may be a
            stranger's.
        strides: of the maps to give; None gives all.
        pretrained: whether timm downloads its weights, or takes them from its cache.

    Raises:
        InputError: if timm is not installed, or has no such model, or the model has no such strides.
    """
    try:
        import timm
    except ImportError as error:
        raise InputError(
            f"backbone {name}: timm is not installed; pip install 'smca[timm]'"
        ) from error
    if ":" in name or not timm.is_model(name):
        near = difflib.get_close_matches(name.partition(".")[0], timm.list_models(), n=3)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise InputError(f"timm has no model {name!r}{hint}")
    whole = timm.create_model(name, features_only=True)
    given = whole.feature_info.reduction()
    if strides is None:
        strides = given
    missing = sorted(set(strides) - set(given))
    if missing:
        raise InputError(
            f"timm's {name} gives features of strides {given}, not {', '.join(map(str, missing))}"
        )
    indices = tuple(given.index(stride) for stride in sorted(strides))
    return timm.create_model(name, features_only=True, out_indices=indices, pretrained=pretrained)
