"""DETR with 300 queries and the focal loss: the paper's baseline, and the base of every model here."""

from detectron2.config import LazyCall as L

from smca.modeling import (
    SMCA,
    Decoder,
    DetectionHeads,
    Encoder,
    FocalClassification,
    HungarianMatcher,
    Neck,
    Postprocessor,
    SetCriterion,
    build_resnet,
)

model = L(SMCA)(
    num_classes=80,
    # What the outputs mean, their loss and cost: decided here, for all parts.
    classification=L(FocalClassification)(alpha=0.25, gamma=2.0, prior_probability=0.01),
    backbone=L(build_resnet)(
        depth=50,
        out_features=["res5"],
        norm="FrozenBN",
        freeze_at=2,
        stem_channels=64,
        dilate_res5=False,
    ),
    neck=L(Neck)(
        in_features="${..backbone.out_features}",
        strides=[32],
        embed_dim=256,
    ),
    encoder=L(Encoder)(
        blocks="6Intra",
        embed_dim="${..neck.embed_dim}",
        num_heads=8,
        ffn_dim=2048,
        dropout=0.1,
        num_levels=1,
        share_attention=True,
        share_ffn=True,
        # In the encoder and the decoder: less memory for more time.
        activation_checkpointing=False,
    ),
    decoder=L(Decoder)(
        num_queries=300,
        num_layers=6,
        embed_dim="${..neck.embed_dim}",
        num_heads="${..encoder.num_heads}",
        ffn_dim="${..encoder.ffn_dim}",
        dropout="${..encoder.dropout}",
        num_levels="${..encoder.num_levels}",
        share_key_value=True,
        modulation=None,
        activation_checkpointing="${..encoder.activation_checkpointing}",
    ),
    heads=L(DetectionHeads)(
        embed_dim="${..neck.embed_dim}",
        num_classes="${..num_classes}",
        classification="${..classification}",
        size_reference=None,
    ),
    criterion=L(SetCriterion)(
        classification="${..classification}",
        matcher=L(HungarianMatcher)(
            classification="${...classification}",
            class_weight=2.0,
            box_weight=5.0,
            giou_weight=2.0,
        ),
        class_weight=2.0,
        box_weight=5.0,
        giou_weight=2.0,
    ),
    postprocessor=L(Postprocessor)(classification="${..classification}", max_detections=100),
    # ImageNet's, in RGB order, for images of 0..255.
    pixel_mean=[123.675, 116.28, 103.53],
    pixel_std=[58.395, 57.12, 57.375],
    input_format="RGB",
    # An image gets the outputs in a padded batch that it has alone; false pads as the released models do.
    isolate_images=True,
)
