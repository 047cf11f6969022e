"""x0.1 after 40 of 50 epochs, the paper's schedule. Other lengths set drop_epochs."""

from detectron2.config import LazyCall as L

from smca.engine import EpochSchedule

# The engine fills in iterations_per_epoch and max_iter.
lr_multiplier = L(EpochSchedule)(
    drop_epochs=[40],
    gamma=0.1,
    warmup_iterations=0,
    warmup_factor=0.001,
)
