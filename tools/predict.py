#!/usr/bin/env python
"""The command ``smca-predict`` from a checkout: python tools/predict.py --help"""

import sys

from smca.inference.command import main

if __name__ == "__main__":
    sys.exit(main())
