"""Names of tensors translated by rules: pairs of forms that have the same placeholders in the same order."""

import re
from collections.abc import Callable, Iterable, Sequence

from smca.errors import InputError

_PLACEHOLDERS = {
    "{i}": r"(\d+)",
    "{12}": "([12])",
    "{123}": "([123])",
    "{leaf}": "(weight|bias)",
    "{stat}": r"(\w+)",
    "{sampling}": r"((?:sampling_offsets|attention_weights)\.(?:weight|bias))",
    "{path}": r"(in_proj_(?:weight|bias)|out_proj\.(?:weight|bias))",
}


def _resnet_rules() -> list[tuple[str, str]]:
    """Torchvision's names of a ResNet, and Detectron2's."""
    rules = [("conv1.weight", "stem.conv1.weight"), ("bn1.{stat}", "stem.conv1.norm.{stat}")]
    for stage in range(1, 5):
        theirs, ours = f"layer{stage}.{{i}}.", f"res{stage + 1}.{{i}}."
        rules += [
            (theirs + "conv{123}.weight", ours + "conv{123}.weight"),
            (theirs + "bn{123}.{stat}", ours + "conv{123}.norm.{stat}"),
            (theirs + "downsample.0.weight", ours + "shortcut.weight"),
            (theirs + "downsample.1.{stat}", ours + "shortcut.norm.{stat}"),
        ]
    return rules


RESNET_RULES = _resnet_rules()


def convert_names(names: Iterable[str], convert: Callable[[str], str]) -> dict[str, str]:
    """Name -> converted name, without batch counters; one error names all that have none."""
    targets, failures = {}, []
    for name in names:
        if name.endswith("num_batches_tracked"):
            continue
        try:
            targets[name] = convert(name)
        except InputError as error:
            failures.append((name, error))
    if failures:
        (_, first), *rest = failures
        more = f"; nor has any of {', '.join(repr(name) for name, _ in rest)}" if rest else ""
        raise InputError(f"{first}{more}") from first
    return targets


def rename(name: str, rules: Sequence[tuple[str, str]], place: str) -> str:
    """By the first rule whose left side the name has the form of.

    Raises:
        InputError: if there is none, so that the tensor has no place in ``place``.
    """
    for source, target in rules:
        if (renamed := translate(name, source, target)) is not None:
            return renamed
    raise InputError(f"tensor {name!r} has no place in {place}")


def translate(name: str, source: str, target: str) -> str | None:
    """``name`` written as ``target`` if it has the form of ``source``."""
    pattern = re.escape(source)
    for placeholder, regex in _PLACEHOLDERS.items():
        pattern = pattern.replace(re.escape(placeholder), regex)
    match = re.fullmatch(pattern, name)
    if match is None:
        return None
    values = iter(match.groups())
    return re.sub(r"\{\w+\}", lambda _: next(values), target)
