"""Detectron2's own Faster R-CNN with FPN: its common mask_rcnn_fpn without the masks."""

from detectron2.config import LazyCall as L
from detectron2.layers import ShapeSpec
from detectron2.model_zoo import get_config

model = get_config("common/models/mask_rcnn_fpn.py").model
for _name in [name for name in model.roi_heads if name.startswith("mask_")]:
    del model.roi_heads[_name]
model.backbone.bottom_up.freeze_at = 2
# Written as calls, so that the config can be saved as plain data.
model.roi_heads.box_head.input_shape = L(ShapeSpec)(channels=256, height=7, width=7)
model.roi_heads.box_predictor.input_shape = L(ShapeSpec)(channels=1024)
model.roi_heads.box_predictor.test_topk_per_image = 100
