"""x0.1 after four fifths of the training, as the paper does: after 40 of 50 epochs."""

from detectron2.config import LazyCall as L

from smca.engine import EpochSchedule

# The engine fills in how long the training is.
lr_multiplier = L(EpochSchedule)(
    drop_at=[0.8],
    # Where given, these epochs take the place of drop_at.
    drop_epochs=None,
    gamma=0.1,
    warmup_iterations=0,
    warmup_factor=0.001,
)
