#!/usr/bin/env python3
"""`smca-install-detectron2` for a checkout that is not installed."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "projects" / "SMCA"))

from smca_install_detectron2 import main

if __name__ == "__main__":
    sys.exit(main())
