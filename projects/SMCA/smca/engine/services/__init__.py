"""Services that keep the numbers of trainings: Weights & Biases and MLflow, both optional."""

from importlib.util import find_spec
from pathlib import Path

from smca.errors import InputError

from .mlflow_run import MlflowRun
from .wandb_run import WandbRun
from .writer import ServiceWriter

SERVICES = {"wandb": WandbRun, "mlflow": MlflowRun}
"""Name in ``train.writers``, of the package and of the extra that brings it -> what talks to it."""


def check_services(names: list[str]) -> None:
    """Whether their packages are installed; they are not imported.

    Raises:
        InputError: if one is not, naming the extra.
    """
    for name in names:
        if find_spec(name) is None:
            raise InputError(
                f"train.writers={names}: {name} is not installed; pip install 'smca[{name}]'"
            )


def service_writer(name: str, output_dir: Path, last: int, line: dict[str, float]) -> ServiceWriter:
    """The writer of one of ``SERVICES``; see :class:`ServiceWriter` for the arguments."""
    return ServiceWriter(name, SERVICES[name], output_dir, last, line)


__all__ = ["SERVICES", "ServiceWriter", "check_services", "service_writer"]
