import random

import numpy as np
import torch


def seed_generators(*words: int) -> None:
    """Seed torch's, numpy's and Python's generators with what follows from some non-negative numbers."""
    word = int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0] >> 1)
    torch.manual_seed(word)
    np.random.seed(word % 2**32)
    random.seed(word)
