"""Names of tensors written in another way, by rules that read in both directions."""

import re

_PLACEHOLDERS = {
    "{i}": r"(\d+)",
    "{12}": "([12])",
    "{123}": "([123])",
    "{leaf}": "(weight|bias)",
    "{path}": r"(in_proj_(?:weight|bias)|out_proj\.(?:weight|bias))",
    "{sampling}": r"((?:sampling_offsets|attention_weights)\.(?:weight|bias))",
}


def translate(name: str, source: str, target: str) -> str | None:
    """``name`` written as ``target`` if it has the form of ``source``, else None.

    Args:
        name: of a tensor.
        source, target: names with the same placeholders in the same order: "{i}" for a number, "{leaf}" for weight or
            bias, and the others above.
    """
    pattern = re.escape(source)
    for placeholder, regex in _PLACEHOLDERS.items():
        pattern = pattern.replace(re.escape(placeholder), regex)
    match = re.fullmatch(pattern, name)
    if match is None:
        return None
    values = iter(match.groups())
    return re.sub(r"\{\w+\}", lambda _: next(values), target)
