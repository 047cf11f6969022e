"""A run of MLflow (extra ``mlflow``)."""

import logging
import os
import posixpath
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from smca.engine.run.lines import Line

logger = logging.getLogger(__name__)

_MOST_METRICS, _MOST_PARAMS = 500, 100
"""Of a request."""
_LONGEST_NAME, _LONGEST_VALUE = 250, 500


class MlflowRun:
    """See :class:`~smca.engine.services.writer.ServiceRun`.

    MLflow's own environment variables decide on where: MLFLOW_TRACKING_URI, MLFLOW_EXPERIMENT_NAME, MLFLOW_RUN_NAME.
    Without the first it is MLflow's default or, where that needs a data base that is not installed, ./mlruns.
    """

    def __init__(self, *, run_id: str | None, name: str, folder: Path, settings: Mapping):
        uri = _tracking_uri()
        # Seconds that only those wait for who ask for it.
        from mlflow import MlflowClient
        from mlflow.entities import Metric, Param

        self._make_metric = Metric
        self._client = MlflowClient(uri)
        if run_id is not None:
            self.id = self._client.get_run(run_id).info.run_id
            self._client.update_run(self.id, "RUNNING")
            return
        title = os.environ.get("MLFLOW_EXPERIMENT_NAME") or "smca"
        experiment = self._client.get_experiment_by_name(title)
        number = experiment.experiment_id if experiment else self._client.create_experiment(title)
        name = os.environ.get("MLFLOW_RUN_NAME") or name
        self.id = self._client.create_run(number, run_name=name).info.run_id
        params = [Param(metric_name(k), str(v)[:_LONGEST_VALUE]) for k, v in settings.items()]
        try:
            for some in _parts(params, _MOST_PARAMS):
                self._client.log_batch(self.id, params=some)
        except Exception as error:
            # A run without its settings is worth more than a new run at each further try.
            reason = " ".join(str(error).split())[:200]
            logger.warning("MLflow does not take the settings (%s); the numbers are sent.", reason)

    def log(self, line: Line) -> None:
        now = int(time.time() * 1000)
        metrics = [
            self._make_metric(metric_name(name), float(value), now, line.iteration)
            for name, value in line.numbers.items()
        ]
        for some in _parts(metrics, _MOST_METRICS):
            self._client.log_batch(self.id, metrics=some)

    def finish(self, *, succeeded: bool) -> None:
        self._client.set_terminated(self.id, "FINISHED" if succeeded else "KILLED")


def metric_name(name: str) -> str:
    """MLflow takes letters, digits, blanks and ``_-.:/``; anything else, as in class names, becomes its number.

    So do slashes of a name that would be another one as a path, such as "a//b", which it refuses.
    """
    is_path = posixpath.normpath(name) == name and not name.startswith(("/", "../"))
    others = r"[^\w\-. :/]" if is_path else r"[^\w\-. :]"
    return re.sub(others, lambda found: f"_{ord(found[0]):x}_", name)[:_LONGEST_NAME]


def _tracking_uri() -> str | None:
    """None leaves it to MLflow."""
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    if uri is None and find_spec("sqlalchemy") is None:
        uri = f"file:{Path('mlruns').absolute()}"
    if uri is not None and uri.startswith(("file:", "/", ".")):
        # Newer releases want to be told that files are meant.
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
    return uri


def _parts(items: Sequence[Any], most: int) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), most):
        yield items[start : start + most]
