#!/usr/bin/env python
"""`smca-report` of a checkout: judges a trained detector; see --help."""

import sys

from smca.report.command import main

if __name__ == "__main__":
    sys.exit(main())
