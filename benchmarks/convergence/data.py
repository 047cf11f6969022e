"""The study's data sets, beside the bundled digits: registered here, made when they are first used."""

from smca.data.digits.registration import register_digits
from smca.data.digits.spec import DigitsSpec

# Other images of the training's writers and photographs: nothing of the validation images decides on a rate.
_HELD_OUT_SEED = 1

SPECS = {
    "digits256": dict(
        image_height=256, image_width=256, digit_min=14, digit_max=128, max_objects=8,
        train_images=2000, val_images=300,
    ),
    "digits384": dict(
        image_height=384, image_width=384, digit_min=14, digit_max=192, max_objects=12,
        train_images=8000, val_images=500,
    ),
}  # fmt: skip


def register() -> None:
    """Register every data set of ``SPECS``, and ``<name>_heldout_train`` beside each and the bundled one."""
    for name, settings in {"digits": {}, **SPECS}.items():
        if settings:
            register_digits(name=name, spec=DigitsSpec(**settings))
        held_out = {**settings, "seed": _HELD_OUT_SEED, "train_images": 400, "val_images": 1}
        register_digits(name=f"{name}_heldout", spec=DigitsSpec(**held_out))
