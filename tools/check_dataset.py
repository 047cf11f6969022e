#!/usr/bin/env python
"""`smca-check-dataset` of a checkout: inspects a data set before training; see --help."""

import sys

from smca.data_check.command import main

if __name__ == "__main__":
    sys.exit(main())
