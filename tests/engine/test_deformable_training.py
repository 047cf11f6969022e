"""What the engine promises, with a Deformable DETR in two stages, whose queries and losses come from the image."""

import pytest
import torch

from helpers.distributed import save_gradients
from smca import model_zoo
from smca.data import DigitsSpec, register_digits
from smca.engine import RunInputs, launch, prepare_training

NAME = "digits/deformable_detr_two_stage"


@pytest.fixture(scope="module", autouse=True)
def digits(tmp_path_factory):
    register_digits(
        tmp_path_factory.mktemp("datasets"), spec=DigitsSpec(train_images=8, val_images=2)
    )
    yield
    register_digits()


def train(directory, *, max_iter, resume=False):
    cfg = model_zoo.get_config(NAME)
    cfg.model.backbone.stem_channels = 8
    cfg.model.neck.embed_dim = 32
    cfg.model.encoder.ffn_dim = 16
    cfg.model.encoder.num_layers = cfg.model.decoder.num_layers = 2
    cfg.model.encoder.dropout = 0.1
    cfg.model.decoder.num_queries = 5
    cfg.dataloader.train.total_batch_size = 2
    cfg.dataloader.train.num_workers = cfg.dataloader.test.num_workers = 0
    cfg.train.update(device="cpu", output_dir=str(directory), max_iter=max_iter, log_period=1)
    cfg.train.ema.enabled = True
    cfg.train.checkpointer.period = 0
    cfg.train.evaluation.period = 0
    cfg.lr_multiplier.drop_epochs = [0.5]
    torch.manual_seed(0)
    trainer, start, stop = prepare_training(RunInputs(cfg, training=True), resume=resume)
    trainer.train(start, stop)
    return torch.load(directory / "model_final.pth", weights_only=True)


def test_a_resumed_training_ends_bit_identical(tmp_path):
    whole = train(tmp_path / "whole", max_iter=3)
    train(tmp_path / "stopped", max_iter=1)
    resumed = train(tmp_path / "stopped", max_iter=3, resume=True)

    for part in ("model", "ema"):
        own, other = (content[part].get("model", content[part]) for content in (whole, resumed))
        assert own.keys() == other.keys()
        assert [k for k in own if not torch.equal(own[k], other[k])] == []
    rates = [group["lr"] for group in resumed["trainer"]["optimizer"]["param_groups"]]
    assert len(rates) == 3


def gradients(path, processes, accumulate_steps):
    launch(
        save_gradients,
        args=(str(path), [1, 4], accumulate_steps, "deformable_detr_two_stage"),
        device="cpu",
        num_processes=processes,
    )
    return torch.load(path)


def test_two_processes_and_accumulation_give_the_gradients_of_one_batch(tmp_path):
    whole = gradients(tmp_path / "whole.pth", 1, 1)
    named = whole["gradients"]
    scale = max(g.abs().max() for g in named.values())
    assert sum(g.abs().max() > 0 for g in named.values()) > 100
    for name, processes, steps in (("two", 2, 1), ("accumulated", 1, 2)):
        other = gradients(tmp_path / f"{name}.pth", processes, steps)
        assert other["loss"] == pytest.approx(whole["loss"], rel=1e-5)
        for key, expected in named.items():
            difference = (other["gradients"][key] - expected).abs().max()
            assert difference <= 1e-4 * max(expected.abs().max(), 1e-3 * scale), (name, key)
