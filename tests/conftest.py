import signal

import pytest
import torch

# Small tensors gain nothing from threads, and on a busy machine threads that wait for each other cost a lot.
torch.set_num_threads(1)

# A parent that ignores Ctrl-C, as a shell does for what it starts in the background, has its children ignore it, too.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def pytest_addoption(parser):
    parser.addoption(
        "--write-screenshots", action="store_true", help="store the pages' pictures anew"
    )
