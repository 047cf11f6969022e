#!/usr/bin/env python
"""`smca-export` of a checkout: writes a trained detector as an ONNX file; see --help."""

import sys

from smca.export.command import main

if __name__ == "__main__":
    sys.exit(main())
