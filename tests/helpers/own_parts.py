"""A model with a part of one's own, through everything a user does with a model."""

from pathlib import Path

import numpy as np
import torch
from detectron2.data import DatasetCatalog
from detectron2.engine import DefaultPredictor
from omegaconf import DictConfig

from smca import Predictor, model_zoo
from smca.config import cfg_from_lazy
from smca.data import DigitsSpec, register_digits
from smca.description.allowed_targets import allow_targets_of
from smca.engine import RunInputs, prepare_training
from smca.experiments import apply_overrides

from .builders import small_config
from .odd_images import picture

SETTINGS = [
    "train.device=cpu",
    "train.max_iter=2",
    "train.log_period=1",
    "train.evaluation.period=0",
    "train.checkpointer.period=1",
    "dataloader.train.total_batch_size=2",
    "dataloader.train.num_workers=0",
    "dataloader.test.num_workers=0",
    "dataloader.test.batch_size=2",
]


class TrainAndPredict:
    def __init__(self, folder: Path):
        self.folder = folder

    def __call__(self, change, *, base: str = "smca_single_scale") -> dict:
        """
        Args:
            change: changes the ``model`` node of a small config, as a user's config file would.

        Returns:
            "model" as trained, "metrics" of the last step, "instances" of one image.
        """
        register_digits(str(self.folder / "data"), spec=DigitsSpec(train_images=4, val_images=2))
        DatasetCatalog.get("digits_train")
        trainer = self._run(self._config(change, base), resume=False)
        metrics = {name: value for name, (value, _) in trainer.storage.latest().items()}
        for name, parameter in trainer.model.named_parameters():
            assert parameter.grad is not None, f"{name} has no gradient"
        weights = str(self.folder / "run" / "model_final.pth")
        image = picture(64, 96)
        found = Predictor.from_checkpoint(weights, device="cpu")(image[:, :, ::-1])
        self._check_default_predictor(weights, image, found, base, change)
        register_digits()
        return {"model": trainer.model, "metrics": metrics, "instances": found}

    def resume(self, change, *, base: str) -> dict:
        """The state after the second step again, from the checkpoint of the first one."""
        register_digits(str(self.folder / "data"), spec=DigitsSpec(train_images=4, val_images=2))
        (self.folder / "run" / "model_final.pth").unlink()
        cfg = self._config(change, base)
        trainer, start, stop = prepare_training(RunInputs(cfg, training=True), resume=True)
        assert (start, stop) == (1, 2)
        trainer.train(start, stop)
        register_digits()
        return trainer.model.state_dict()

    def _config(self, change, base: str) -> DictConfig:
        cfg = model_zoo.get_config("digits/smca_single_scale")
        cfg.model = small_config(base, num_classes=10)
        change(cfg.model)
        # As for all parts that a config file names.
        allow_targets_of(cfg.model)
        return apply_overrides(cfg, [*SETTINGS, f"train.output_dir={self.folder / 'run'}"])

    def _run(self, cfg: DictConfig, *, resume: bool):
        torch.manual_seed(0)
        trainer, start, stop = prepare_training(RunInputs(cfg, training=True), resume=resume)
        trainer.train(start, stop)
        return trainer

    def _check_default_predictor(self, weights, image, found, base, change) -> None:
        lazy = self._config(change, base)
        cfg = cfg_from_lazy(lazy, weights=weights)
        cfg.MODEL.DEVICE = "cpu"
        instances = DefaultPredictor(cfg)(np.ascontiguousarray(image[:, :, ::-1]))["instances"]
        assert len(instances) == len(found) > 0
        torch.testing.assert_close(instances.scores, found.scores, atol=1e-4, rtol=0)
