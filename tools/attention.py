#!/usr/bin/env python
"""The command ``smca-attention`` from a checkout: python tools/attention.py --help"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "projects" / "SMCA"))

from smca.attention_view.command import main

if __name__ == "__main__":
    sys.exit(main())
