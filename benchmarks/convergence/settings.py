"""What the runs of a part share: data, length, size of steps."""

from dataclasses import dataclass, replace


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What all runs of a part share.

    Attributes:
        backbone: depth and channels of the stem of the ResNet that its runs start from.
        train, test, held_out: names of data sets; rates are chosen on ``held_out``.
        steps, images: length of a run, and images of a step.
        evaluations: evenly over a run, at steps that have their numbers written: multiples of 20.
        overrides: of the experiments' fields.
        detr_overrides: of the fields that Faster R-CNN does not have, or has under other names.
        rcnn_overrides: of Faster R-CNN's.
        prior_overrides: of the models with the paper's prior.
    """

    backbone: tuple[int, int]
    train: str
    test: str
    held_out: str
    steps: int
    images: int
    evaluations: int
    overrides: tuple[str, ...] = ()
    detr_overrides: tuple[str, ...] = ()
    rcnn_overrides: tuple[str, ...] = ()
    prior_overrides: tuple[str, ...] = ()


def _prior_of(side: int) -> tuple[str, ...]:
    """A prior that starts about as wide, for images of so many pixels, as the paper's does for COCO's.

    There its standard deviation is 64 pixels, a twelfth to a seventeenth of an image's sides. Here a digit is a larger
    share of its image than COCO's objects are, so it is an eighth of the image, about half a digit. The paper's own
    beta of 8 is 45 pixels at stride 16, which looks at an image of 128 pixels as a whole.
    """
    # The exponent is multiplied by stride / 32 = 1 / 2, and distances are in cells of 16 pixels.
    return (f"model.decoder.modulation.beta={(side / 8 / 16) ** 2:g}",)


_COMMON = (
    "train.amp.enabled=True",
    "dataloader.train.num_workers=0",
    # As in the paper less than the transformer's, but not a tenth: what the backbone knows is less, too.
    "optimizer.params.backbone_lr=2e-4",
)
# The paper's; the digits' own recipe, from scratch, has 10.
_CLASS_WEIGHT = "model.criterion.class_weight=2"

_SMALL = Setting(
    backbone=(18, 32),
    train="digits_train",
    test="digits_val",
    held_out="digits_heldout_train",
    steps=1000,
    images=8,
    evaluations=10,
    overrides=_COMMON,
    detr_overrides=(_CLASS_WEIGHT,),
    prior_overrides=_prior_of(128),
)


def _of_side(side: int, **changes) -> Setting:
    """The small setting with images of another side."""
    names = {
        "train": f"digits{side}_train",
        "test": f"digits{side}_val",
        "held_out": f"digits{side}_heldout_train",
    }
    # The experiments' test images are resized to the bundled digits' 128 pixels.
    resize = "dataloader.test.mapper.augmentations.0"
    size = (f"{resize}.short_edge_length={side}", f"{resize}.max_size={side}")
    return replace(
        _SMALL,
        **names,
        overrides=(*_SMALL.overrides, *size),
        prior_overrides=_prior_of(side),
        **changes,
    )


SETTINGS = {
    "small": _SMALL,
    "scales": _of_side(256, evaluations=2),
    "large": _of_side(
        384,
        backbone=(50, 64),
        steps=6000,
        images=16,
        evaluations=12,
        detr_overrides=(
            _CLASS_WEIGHT,
            "model.backbone.depth=50",
            "model.backbone.stem_channels=64",
            "model.decoder.num_queries=60",
        ),
        rcnn_overrides=(
            "model.backbone.bottom_up.depth=50",
            "model.backbone.bottom_up.stem_channels=64",
        ),
    ),
}
