#!/usr/bin/env python
"""Train or evaluate an experiment: one of the zoo by its name, or a LazyConfig.

    python train_net.py --config-file smca_r50_50ep --num-gpus 8
    torchrun --nproc-per-node 8 train_net.py --config-file configs/smca_r50_50ep.py
    python train_net.py --config-file smca_r50_50ep --eval-only train.init_checkpoint=model.pth

Fields of the config are overridden with ``key=value`` at the end of the command line, ``+key=value`` adds one.
Without CUDA, or with train.device=cpu, --num-gpus is the number of processes. SIGTERM, SIGUSR1 and Ctrl-C save a
checkpoint and end the training; --resume goes on from it.
"""

import argparse
import logging
import warnings

with warnings.catch_warnings():
    # Detectron2 0.6 and fvcore import what today's libraries deprecate.
    warnings.simplefilter("ignore")
    # Says that there is no GPU where CUDA_HOME is set.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    from detectron2.engine import default_argument_parser

    from smca.engine import run_command
    from smca.report import report_training

# Here, and not only in a training: its processes import this before they join.
warnings.filterwarnings("ignore", category=FutureWarning)
warnings.filterwarnings("ignore", message="TypedStorage is deprecated")


def build_parser() -> argparse.ArgumentParser:
    """Detectron2's, with examples of our own and a free port for the processes of one machine."""
    examples, details = __doc__.split("\n", 2)[2].split("\n\nFields", 1)
    parser = default_argument_parser(epilog=f"Examples:\n\n{examples}\n\nFields{details}")
    parser.description = __doc__.splitlines()[0]
    parser.set_defaults(dist_url="auto")
    helps = {
        "config_file": "experiment: its name in the zoo, a LazyConfig (.py), or the config.yaml of a run",
        "resume": "go on from the newest checkpoint of train.output_dir",
        "dist_url": "tcp://host:port of machine 0, if there are several",
        "opts": "fields of the config, as key=value",
    }
    for action in parser._actions:
        action.help = helps.get(action.dest, action.help)
        action.required = action.required or action.dest == "config_file"
    return parser


if __name__ == "__main__":
    run_command(build_parser().parse_args(), after_training=report_training)
