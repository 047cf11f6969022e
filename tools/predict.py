#!/usr/bin/env python
"""The command ``smca-predict`` from a checkout: python tools/predict.py --help"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "projects" / "SMCA"))

from smca_predict import main

if __name__ == "__main__":
    sys.exit(main())
