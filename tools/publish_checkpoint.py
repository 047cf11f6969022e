#!/usr/bin/env python
"""`smca-publish` for a checkout: makes a file to share from a checkpoint of a training."""

import sys

from smca.model_zoo.publish_command import main

if __name__ == "__main__":
    sys.exit(main())
