"""Detectron2's Faster R-CNN with FPN on the bundled digits, with the small models' backbone."""

from detectron2.config import LazyCall as L

from smca.modeling import build_resnet

from ..models.faster_rcnn_fpn import model
from .smca_single_scale import dataloader, lr_multiplier, optimizer, train

model.backbone.bottom_up = L(build_resnet)(
    depth=18,
    out_features=["res2", "res3", "res4"],
    norm="BN",
    freeze_at=0,
    stem_channels=32,
)
model.backbone.out_channels = 64
# Detectron2's pooled level is made for one more stage.
model.backbone.top_block = None
model.proposal_generator.in_features = ["p2", "p3", "p4"]
model.proposal_generator.head.in_channels = 64
model.proposal_generator.anchor_generator.sizes = [[16], [28], [48]]
model.proposal_generator.anchor_generator.strides = [4, 8, 16]
model.roi_heads.num_classes = 10
model.roi_heads.batch_size_per_image = 64
model.roi_heads.box_in_features = ["p2", "p3", "p4"]
model.roi_heads.box_pooler.scales = [1 / 4, 1 / 8, 1 / 16]
model.roi_heads.box_head.input_shape.channels = 64
model.roi_heads.box_head.fc_dims = [256, 256]
model.roi_heads.box_predictor.input_shape.channels = 256
model.pixel_std = [57.375, 57.12, 58.395]

# Its convolutions see the padding of a batch, and prediction has none.
dataloader.test.batch_size = 1

train.output_dir = "./output/digits_faster_rcnn"
train.clip_grad_norm = 1.0
