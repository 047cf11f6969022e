"""What to say about a step whose loss or gradient is not finite: which tensor was the first."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from smca.errors import InputError


class NonFiniteError(InputError, FloatingPointError):
    """A loss, gradient or matching cost is not finite; parameters are as they were before the step."""


def first_bad_tensor(model: nn.Module, run: Callable[[], object]) -> str:
    """Run a forward pass again and name what was not finite first: a parameter, or a module's output.

    Args:
        model: the detector, not wrapped.
        run: the forward pass, with the random numbers of the one that went wrong.
    """
    for name, parameter in model.named_parameters():
        if not torch.isfinite(parameter).all():
            return f"the first bad tensor is the parameter {name}"
    found: list[str] = []

    def watch(name: str) -> Callable:
        def hook(_module: nn.Module, _inputs: tuple, output: object) -> None:
            if not found and not all(map(_is_finite, _tensors(output))):
                found.append(f"the first bad tensor is the output of {name}")

        return hook

    handles = [m.register_forward_hook(watch(n)) for n, m in model.named_modules() if n]
    try:
        # Compiled parts do not call the hooks of the modules in them without being compiled anew.
        with torch.no_grad(), torch.compiler.set_stance("force_eager"):
            run()
    except FloatingPointError:
        pass  # what is being looked for
    finally:
        for handle in handles:
            handle.remove()
    return found[0] if found else "every layer's output is finite, so it is the loss itself"


def first_bad_gradient(model: nn.Module) -> str:
    """The parameter nearest to the loss whose gradient is not finite."""
    # Parts are registered in the order of the data's path, so the gradient reaches the last one first.
    for name, parameter in reversed(list(model.named_parameters())):
        if parameter.grad is not None and not _is_finite(parameter.grad):
            return f"the first bad tensor is the gradient of {name}"
    return "every gradient is finite, but the norm of all together is not"


def file_names(batch: Sequence[Mapping]) -> str:
    return "images " + ", ".join(str(item.get("file_name", "?")) for item in batch)


def _is_finite(tensor: Tensor) -> bool:
    return not tensor.is_floating_point() or bool(torch.isfinite(tensor).all())


def _tensors(value: object) -> Iterator[Tensor]:
    """Tensors in an output: bare, in containers, or the attributes of one of our records."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)
    elif hasattr(value, "__dataclass_fields__"):
        for name in value.__dataclass_fields__:
            yield from _tensors(getattr(value, name))
