"""DETR's optimiser: AdamW with a smaller rate for the pre-trained backbone."""

import torch
from detectron2.config import LazyCall as L

from smca.engine import get_param_groups

optimizer = L(torch.optim.AdamW)(
    # The engine fills in params.model.
    params=L(get_param_groups)(backbone_lr=1e-5, lr_factors=None, base_lr="${..lr}"),
    lr=1e-4,
    weight_decay=1e-4,
    fused=True,
)
