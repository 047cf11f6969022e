"""DETR-DC5 as published: res5 dilated, so that its features have stride 16."""

from .detr_r50_500ep import dataloader, lr_multiplier, model, optimizer, train

model.backbone.dilate_res5 = True
model.neck.strides = [16]
train.output_dir = "./output/detr_dc5_r50_500ep"
