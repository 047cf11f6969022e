#!/usr/bin/env python
"""The paper's claim on the bundled data: who learns how fast, and what each part brings.

    python tools/convergence_study.py list                       # what has run, what is left, what it costs
    python tools/convergence_study.py run --threads 2            # go on with what is left
    python tools/convergence_study.py run --parts main --seeds 0 --only smca_single_scale detr
    python tools/convergence_study.py report                     # pictures and tables from the records

Each finished run is a JSON file of its own in benchmarks/results/convergence/runs. The command may be stopped at any
time and started again, here or with these files on another machine; several may run beside each other.
"""

import sys
from pathlib import Path

# The study is a benchmark and no part of the package.
sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

from convergence.command import main

if __name__ == "__main__":
    main(description=__doc__)
