#!/usr/bin/env python
"""Trains a small SMCA detector on the bundled digits, evaluates it and draws what it sees.

    python tools/demo.py [--output-dir DIR] [key=value ...]

Fields of configs/digits/smca_single_scale.py are overridden with ``key=value``. A run that was cut
off goes on from its last checkpoint; a finished one is set aside and a new one started.
"""

import argparse
import contextlib
import logging
import math
import os
import re
import shutil
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

with warnings.catch_warnings():
    # Detectron2 0.6 and fvcore import what today's libraries deprecate.
    warnings.simplefilter("ignore")
    # Says that there is no GPU where CUDA_HOME is set, which the demo does not need.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    import cv2
    from detectron2.config import instantiate
    from detectron2.data import MetadataCatalog
    from detectron2.engine import DefaultPredictor
    from omegaconf import DictConfig
    from tabulate import tabulate

    from smca import engine, model_zoo
    from smca.config import cfg_from_lazy
    from smca.errors import InputError
    from smca.experiments import apply_overrides
    from smca.report import report_training
    from smca.visualization import draw_detections, draw_priors, save_png

EXPERIMENT = "digits/smca_single_scale"
NUM_PICTURES = 6
# Focal scores are lower than softmax ones, so 0.5 would leave too much out.
SCORE_THRESHOLD = 0.3
PRIOR_PICTURE = "prior.png"
PICTURES = ("predictions", PRIOR_PICTURE)
FILES = """\
  model_final.pth  the trained model
  model_best.pth   the model with the best AP on the way, weights only
  config.yaml      the whole configuration
  metrics.json     losses and AP over the iterations
  convergence.png  AP over the epochs
  report.html      all of that on one page, with errors by kind and the worst images
  predictions/     ground truth beside predictions
  prior.png        where the queries of some detections looked
  log.txt          everything that was logged"""
# Logs the traceback of an exception that it then raises.
TRAIN_LOOP = "detectron2.engine.train_loop"
SHOWN_LOGGERS = ("detectron2.utils.events", "smca.engine", "smca.evaluation.hook")


def main(argv: Sequence[str] | None = None) -> None:
    args = build_parser().parse_args(argv)
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    with engine.told_in_one_sentence("demo"):
        try:
            run(args.output_dir, args.overrides)
        except (KeyboardInterrupt, engine.TrainingInterrupted):
            sys.exit("\ndemo: stopped; the same command goes on from the last checkpoint, if any")


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output-dir", default="output/demo", help="default: %(default)s")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="fields of the config")
    return parser


def run(output_dir: str, overrides: Sequence[str]) -> None:
    """Train, draw and sum up; an unfinished demo in the folder is gone on with."""
    stages = {}
    with timed(stages, "data set and checks"):
        cfg = model_zoo.get_config(EXPERIMENT)
        cfg.train.output_dir = output_dir
        inputs = engine.RunInputs(apply_overrides(cfg, overrides), training=True)
        root = Path(cfg.train.output_dir)
        resume = is_unfinished(root)
        start = engine.start_run(inputs, resume=resume, terminal=make_brief)
        move_pictures(root, start.aside)
    print(f"{'Going on with' if resume else 'Training'} {EXPERIMENT} in {root}", flush=True)
    with timed(stages, "training with evaluations"):
        trainer, first, stop = engine.prepare_training(inputs, resume=resume)
        weights = root / "model_final.pth"
        if first >= stop and not weights.is_file():
            past = f"holds an unfinished run that is past iteration {stop}"
            raise InputError(f"{root} {past}: give another --output-dir")
        trainer.train(first, stop)
        report_training(inputs)
    with timed(stages, "prediction and pictures"):
        draw_pictures(cfg, weights)
    numbers = {name: value for name, (value, _) in trainer.storage.latest().items()}
    test = cfg.dataloader.test.dataset.names
    print(f"\nDone: trained {EXPERIMENT} for {stop} iterations and evaluated it on {test}.\n")
    print(summarize(root, numbers, stages))


@contextlib.contextmanager
def timed(stages: dict[str, float], name: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    stages[name] = time.perf_counter() - start


def is_unfinished(root: Path) -> bool:
    """Whether there is a checkpoint, but not the last file that a demo writes."""
    return engine.has_checkpoint(str(root)) and not (root / PRIOR_PICTURE).is_file()


def move_pictures(root: Path, aside: Path | None) -> None:
    """Of a finished demo, to where the rest of it went."""
    for name in PICTURES:
        if aside is not None and (root / name).exists():
            (root / name).rename(aside / name)


def make_brief(handler: logging.Handler) -> None:
    """Progress and warnings only, on the terminal; log.txt has everything."""
    handler.addFilter(is_shown)
    handler.setFormatter(BriefFormatter("%(message)s"))


def is_shown(record: logging.LogRecord) -> bool:
    is_progress = record.name.startswith(SHOWN_LOGGERS)
    return record.name != TRAIN_LOOP and (is_progress or record.levelno >= logging.WARNING)


class BriefFormatter(logging.Formatter):
    """Leaves the single losses out of a line of progress; metrics.json has them."""

    def format(self, record: logging.LogRecord) -> str:
        return re.sub(r"  (loss_\w+|data_time): \S+", "", super().format(record)).strip()


def draw_pictures(cfg: DictConfig, weights: Path) -> None:
    """Draw what Detectron2's predictor finds in images of the test set, and where it looked."""
    predictor_cfg = cfg_from_lazy(cfg, name=EXPERIMENT, weights=str(weights))
    predictor = DefaultPredictor(predictor_cfg)
    records = choose_images(instantiate(cfg.dataloader.test.dataset))
    metadata = MetadataCatalog.get(predictor_cfg.DATASETS.TEST[0])
    root = weights.parent
    for record in records:
        image = cv2.imread(record["file_name"])
        found, truth = predictor(image)["instances"], record["annotations"]
        rgb = image[:, :, ::-1]
        picture = draw_detections(rgb, found, truth, metadata, score_threshold=SCORE_THRESHOLD)
        save_png(picture, root / "predictions" / f"{Path(record['file_name']).stem}.png")
    fullest = max(records, key=lambda record: len(record["annotations"]))
    batched_input = instantiate(cfg.dataloader.test.mapper)(fullest)
    options = {"class_names": metadata.thing_classes, "score_threshold": SCORE_THRESHOLD}
    picture = draw_priors(predictor.model, batched_input, **options)
    save_png(picture, root / PRIOR_PICTURE)


def choose_images(records: Sequence[dict]) -> list[dict]:
    """The same few images every time, evenly spaced among those with objects."""
    filled = [record for record in records if record["annotations"]]
    count = min(NUM_PICTURES, len(filled))
    return [filled[i * len(filled) // count] for i in range(count)]


def summarize(root: Path, numbers: dict[str, float], stages: dict[str, float]) -> str:
    """How long things took, the AP table, where things are, and what to do next."""
    box = {name.removeprefix("bbox/"): value for name, value in numbers.items()}
    overall = {name: show(box[name]) for name in ("AP", "AP50", "AP75", "APs", "APm")}
    classes = {n.removeprefix("AP-"): show(box[n]) for n in box if n.startswith("AP-")}
    times = [(name, f"{s // 60:.0f} min {s % 60:02.0f} s") for name, s in stages.items()]
    publish, published = command("smca-publish", "publish_checkpoint.py"), root / "published"
    predict = command("smca-predict", "predict.py")
    parts = [
        tabulate(times, tablefmt="plain", colalign=("left", "right")),
        tabulate([overall], headers="keys", tablefmt="github", disable_numparse=True),
        "AP of each class:",
        tabulate([classes], headers="keys", tablefmt="github", disable_numparse=True),
        f"In {root}{os.sep}:\n{FILES}",
        "Next, a file to share, and what it finds in images:\n"
        f"  {publish} {root} --name digits_demo --output-dir {published}\n"
        f"  {predict} --weights {published}/digits_demo_*.pth datasets/digits/val --output {root / 'found'}\n"
        "or SMCA with all three scales:\n"
        f"  {as_typed(sys.executable)} train_net.py --config-file configs/digits/smca.py",
    ]
    return "\n\n".join(parts)


def command(script: str, tool: str) -> str:
    """How to call an installed script of the environment that runs the demo or, without one, its file."""
    # Not resolved: a virtual environment's python is a link out of it.
    installed = Path(sys.executable).parent / script
    if installed.is_file():
        return as_typed(installed)
    return f"{as_typed(sys.executable)} tools/{tool}"


def as_typed(program: str | Path) -> str:
    """The shortest that a shell in this folder finds the program by."""
    program = Path(program)
    if shutil.which(program.name) == str(program):
        return program.name
    return str(program.relative_to(Path.cwd()) if program.is_relative_to(Path.cwd()) else program)


def show(value: float) -> str:
    """In percent; a dash where there was nothing to measure."""
    return "-" if math.isnan(value) else f"{value:.1f}"


if __name__ == "__main__":
    main()
