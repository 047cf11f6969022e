import pytest

from helpers.own_parts import TrainAndPredict


@pytest.fixture
def train_and_predict(tmp_path, monkeypatch):
    """Trains a config for two steps, resumes, and predicts with what was written."""
    return TrainAndPredict(tmp_path)
