import pytest
import torch


@pytest.fixture(scope="package", autouse=True)
def one_thread():
    """Threads cost more than they gain on images as small as these."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
