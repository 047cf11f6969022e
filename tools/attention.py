#!/usr/bin/env python
"""`smca-attention` of a checkout: shows where the queries of detectors look; see --help."""

import sys

from smca.attention_view.command import main

if __name__ == "__main__":
    sys.exit(main())
