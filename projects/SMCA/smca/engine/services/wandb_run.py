"""A run of Weights & Biases (extra ``wandb``)."""

import os
import uuid
from collections.abc import Mapping
from pathlib import Path

from smca.engine.run.lines import Line


class WandbRun:
    """See :class:`~smca.engine.services.writer.ServiceRun`.

    W&B's own environment variables decide on everything else: WANDB_MODE=offline, WANDB_PROJECT, WANDB_API_KEY, ...
    """

    def __init__(self, *, run_id: str | None, name: str, folder: Path, settings: Mapping):
        # Seconds that only those wait for who ask for it.
        import wandb

        self.id = run_id or uuid.uuid4().hex
        self._run = wandb.init(
            id=self.id,
            resume="allow",
            project=os.environ.get("WANDB_PROJECT") or "smca",
            name=os.environ.get("WANDB_NAME") or name,
            dir=str(folder),
            config=None if run_id else dict(settings),
            # The log is the training's own.
            settings=wandb.Settings(console="off", silent=True),
        )
        # W&B's steps only go up: an evaluation that is made up for after a resume would be thrown away.
        self._run.define_metric("iteration")
        self._run.define_metric("*", step_metric="iteration")

    def log(self, line: Line) -> None:
        self._run.log({**line.numbers, "iteration": line.iteration})

    def finish(self, *, succeeded: bool) -> None:
        self._run.finish(exit_code=0 if succeeded else 1)
