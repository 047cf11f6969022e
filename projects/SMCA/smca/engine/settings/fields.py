"""What each field of an experiment may hold."""

from detectron2.engine import HookBase

from smca.engine.precision import DTYPES
from smca.engine.schedule import MOST_ITERATIONS
from smca.engine.services import SERVICES

from .kinds import (
    COUNT,
    FACTORS,
    FLAG,
    FLAG_OR_NULL,
    LIST,
    NUMBERS,
    PATH,
    RATE,
    SHARE,
    SIZE,
    TEXT,
    WHERE,
    WORDS,
    Kind,
    list_of,
    number,
    one_of,
    whole,
)

HOOKS = list_of(
    Kind(
        "a hook",
        lambda value: (
            isinstance(value, HookBase) or (isinstance(value, dict) and "_target_" in value)
        ),
    ),
    "a list of hooks, each a detectron2.engine.HookBase or a group of fields with a _target_ that is one",
)


ALWAYS = {
    "train.output_dir": PATH,
    "train.init_checkpoint": TEXT.or_null(),
    "train.device": TEXT,
    # numpy's generators take no more, and ranks count up from it.
    "train.seed": whole(0, 2**31),
    "dataloader.test.batch_size": SIZE,
    "dataloader.test.num_workers": COUNT,
    "model.input_format": one_of("RGB", "BGR"),
    # Where a smaller or larger one would turn a loss or a cost of the matcher negative.
    "model.classification.alpha": number(0, most=1),
    "model.classification.gamma": RATE,
    "model.classification.eps": number(0, above=True),
    "model.classification.no_object_weight": RATE,
    "model.backbone.out_features": WORDS,
    "model.neck.in_features": WORDS,
    "model.neck.strides": NUMBERS,
    "model.neck.in_channels": NUMBERS.or_null(),
    "model.neck.in_strides": NUMBERS.or_null(),
    "model.neck.num_groups": SIZE.or_null(),
    "model.decoder.queries.num_groups": whole(1, 100),
    "model.decoder.queries.queries.num_groups": whole(1, 100),
}  # fmt: skip
"""Field -> what it may hold, also for an evaluation."""

TRAINING = {
    "train.epochs": number(0, above=True).or_null(),
    "train.max_iter": whole(1, MOST_ITERATIONS).or_null(),
    "train.clip_grad_norm": RATE,
    "train.accumulate_steps": SIZE,
    "train.lr_scaling.rule": one_of(None, "linear", "sqrt"),
    "train.lr_scaling.reference_batch_size": SIZE,
    "train.amp.enabled": FLAG,
    "train.ema.enabled": FLAG,
    "train.skip_nonfinite": COUNT.or_null(),
    "train.log_period": SIZE,
    "train.report": FLAG,
    "train.compile": FLAG,
    "train.checkpointer.period_epochs": RATE,
    "train.checkpointer.period": COUNT.or_null(),
    # Or nothing is left if the newest is damaged.
    "train.checkpointer.max_to_keep": whole(2).or_null(),
    "train.evaluation.period_epochs": RATE,
    "train.evaluation.period": COUNT.or_null(),
    "train.evaluation.metric": TEXT.or_null(),
    "train.early_stopping.patience": SIZE.or_null(),
    "train.early_stopping.min_delta": RATE,
    "train.ddp.broadcast_buffers": FLAG,
    "train.ddp.find_unused_parameters": FLAG,
    "train.writers": list_of(
        one_of(*SERVICES), f"a list of {' and '.join(SERVICES)}, such as [{next(iter(SERVICES))}]"
    ),
    "train.hooks": HOOKS,
    "dataloader.train.total_batch_size": SIZE,
    "dataloader.train.num_workers": COUNT,
    "dataloader.train.seed": whole(0, 2**31),
    "optimizer.lr": RATE,
    "optimizer.weight_decay": RATE,
    "optimizer.betas": list_of(SHARE, "two numbers from 0 and below 1, such as [0.9,0.999]", 2),
    "optimizer.eps": RATE,
    "optimizer.momentum": SHARE,
    "optimizer.fused": FLAG_OR_NULL,
    "optimizer.foreach": FLAG_OR_NULL,
    "optimizer.capturable": FLAG,
    "optimizer.amsgrad": FLAG,
    "optimizer.maximize": FLAG,
    "optimizer.nesterov": FLAG,
    "optimizer.params.backbone_lr": RATE,
    "optimizer.params.base_lr": RATE.or_null(),
    "optimizer.params.lr_factors": FACTORS.or_null(),
    "lr_multiplier.drop_at": list_of(
        WHERE, "a list of shares of the training, above 0 and up to 1, such as [0.8]"
    ),
    "lr_multiplier.drop_epochs": list_of(RATE, "a list of epochs, such as [40]").or_null(),
    "lr_multiplier.gamma": RATE,
    "lr_multiplier.warmup_iterations": COUNT,
    "lr_multiplier.warmup_factor": number(0, most=1),
}
"""As above, of what only a training reads."""

MAY_BE_ABSENT = ("train.report", "train.compile")
"""Fields of ``train`` that version 0.1 did not write; without one it has its default."""

SWITCHED = {
    "train.amp.dtype": ("train.amp.enabled", one_of(*DTYPES)),
    "train.ema.decay": ("train.ema.enabled", SHARE),
}
"""What may say anything while the field that it belongs to is false."""

ANYWHERE = {
    "model": {
        "num_classes": SIZE.or_null(),
        "num_queries": SIZE,
        "num_layers": SIZE,
        "num_heads": SIZE,
        "num_levels": SIZE,
        "num_points": SIZE,
        "embed_dim": SIZE,
        "ffn_dim": SIZE,
        "depth": SIZE,
        "freeze_at": COUNT,
        "stem_channels": SIZE,
        "in_channels": SIZE.or_list(),
        "in_strides": SIZE.or_list(),
        "strides": SIZE.or_list(),
        "dropout": SHARE,
        "prior_probability": Kind(
            "a number above 0 and below 1", number(0, 1, above=True).holds
        ),
        "size_reference": number(0, above=True).or_null(),
        "max_detections": SIZE,
        "class_weight": RATE,
        "box_weight": RATE,
        "giou_weight": RATE,
        "beta": number(),
        "position_shift": number(),
        "initial_size": number(),
        "base_side": Kind("a number above 0 and below 1", number(0, 1, above=True).holds),
        "num_denoising": whole(0, 5000),
        "num_coordinates": whole(2, 4),
        "box_noise": number(0, most=1),
        "label_noise": number(0, most=1),
        "cell_side": number(0, above=True),
        "typical_side": number(0, above=True),
        "temperature": number(0, above=True),
        "initial_side": Kind("a number above 0 and below 1", number(0, 1, above=True).holds),
        "target_power": RATE,
        "cost_power": RATE,
        "negative_weight": RATE,
        "weight": RATE,
        "look_forward_twice": FLAG,
        "predict_boxes": FLAG,
        "output_norm": FLAG,
        "xavier": FLAG,
        "level_embedding": FLAG_OR_NULL,
        "see_padding": FLAG,
        "share_layers": FLAG,
        "pre_norm": FLAG,
        "pixel_mean": list_of(number(), "three numbers", 3),
        "pixel_std": list_of(number(0, above=True), "three numbers above 0", 3),
        "activation_checkpointing": FLAG,
        "isolate_images": FLAG,
        "per_head": FLAG,
        "scale_selection": FLAG,
        "share_attention": FLAG,
        "share_ffn": FLAG,
        "share_key_value": FLAG,
        "dilate_res5": FLAG,
    },
    "dataloader": {
        "short_edge_length": SIZE.or_list(),
        "max_size": SIZE,
        "prob": number(0, most=1),
        "image_format": one_of("RGB", "BGR"),
        "filter_empty": FLAG,
        "names": Kind("a name of a data set", PATH.holds).or_list(),
        "augmentations": LIST,
    },
}  # fmt: skip
"""Fields by their last name, wherever they stand below these."""
