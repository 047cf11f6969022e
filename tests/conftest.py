import pytest
import torch

# Small tensors gain nothing from threads, and on a busy machine threads that wait for each other cost a lot.
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)
