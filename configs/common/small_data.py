"""Fine-tuning on a small data set, from a detector that was trained on a larger one."""

from omegaconf import DictConfig


def use_small_data_recipe(
    *, optimizer: DictConfig, lr_multiplier: DictConfig, train: DictConfig, epochs: int
) -> None:
    """Change a recipe for long training on much data; benchmarks/fine_tuning.py measures it on the bundled data.

    Args:
        optimizer, lr_multiplier, train: of an experiment.
        epochs: passes over the small data set. Convergence takes steps, not epochs: aim at 500 steps or more.
    """
    # A tenth of the rate for the backbone: its features serve the new classes as well, and a few hundred images could
    # only overfit them. Decoder and heads have most to learn and keep theirs.
    optimizer.params.backbone_lr = 0.1 * optimizer.lr
    # Rows of new classes start at random, and their first gradients would shake the rest.
    lr_multiplier.warmup_iterations = 50
    train.epochs = epochs
    lr_multiplier.update(drop_at=[0.8], drop_epochs=None)
    # Single steps on few images are noisy; the average over the last of them is not.
    train.ema.enabled = True
    train.ema.decay = 0.99
    train.checkpointer.period_epochs = epochs / 5
    train.evaluation.period_epochs = epochs / 5
