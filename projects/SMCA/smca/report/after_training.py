"""The report at the end of a training, of its last evaluation."""

from __future__ import annotations

import logging
from pathlib import Path

from detectron2.utils import comm

from smca.engine import RunInputs
from smca.engine.run.record import METRICS
from smca.engine.run.run_directory import REPORT

from .attention import attention_of
from .page import write_report
from .reported_run import ReportedRun, curves_or_reason, describe, outcome_of, training_facts

logger = logging.getLogger("smca.engine")


def report_training(inputs: RunInputs) -> None:
    """Write ``report.html`` into a training's output directory, on its main process, unless ``train.report`` is false.

    Nothing is predicted again. What goes wrong is said in the log and does not reach the training. A training that had
    nothing left to do, and so did not evaluate, leaves an earlier report as it is.
    """
    settings = inputs.cfg.train
    if not comm.is_main_process() or not settings.get("report", True):
        return
    folder = Path(settings.output_dir)
    try:
        outcome = outcome_of(inputs.evaluator)
        if outcome is None and (folder / REPORT).is_file():
            return
        curves, missing = curves_or_reason(folder / METRICS)
        facts, draw = [], None
        if outcome is None:
            missing = (
                *missing,
                "There is no evaluation: the training's last one was not by a CocoEvaluator.",
            )
        else:
            what = "moving averages" if settings.ema.enabled else "weights"
            # Averaged weights are not at hand.
            if not settings.ema.enabled:
                draw = attention_of(inputs.model, inputs.test_loader, outcome.dataset_name)
            facts.append(("evaluated on", f"{describe(outcome)}, with the {what} at the end"))
        run = ReportedRun(
            name=folder.absolute().name,
            facts=(*facts, *training_facts(curves)),
            curves=curves,
            outcome=outcome,
            missing=missing,
            draw_attention=draw,
        )
        write_report(folder / REPORT, [run])
    except Exception:
        logger.warning(
            "The report could not be written; the training is complete, and smca-report %s tries again.",
            folder,
            exc_info=True,
        )
    else:
        logger.info("Report: %s", folder / REPORT)
