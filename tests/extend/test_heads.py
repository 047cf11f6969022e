"""Heads with one more output, and the field of the detections that it becomes."""

import torch
from detectron2.config import LazyCall as L
from torch import nn

from smca.modeling import DetectionHeads, Postprocessor, SetCriterion


class QualityHeads(DetectionHeads):
    """How sure a query is of its box, from what it knows and from the mean of the finest feature map."""

    def __init__(self, *, embed_dim, feature, feature_channels, **options):
        super().__init__(embed_dim=embed_dim, **options)
        self.quality = nn.Linear(embed_dim + feature_channels, 1)
        self.feature = feature

    def forward(self, decoded, levels=(), features=None):
        outputs = super().forward(decoded, levels, features)
        mean = features[self.feature].mean((2, 3))[:, None].expand(*decoded.hidden.shape[:3], -1)
        return {**outputs, "quality": self.quality(torch.cat([decoded.hidden, mean], -1))}


class QualityCriterion(SetCriterion):
    def losses(self, outputs, matches, targets, num_boxes):
        losses = super().losses(outputs, matches, targets, num_boxes)
        layers = torch.arange(len(outputs["quality"]))[:, None]
        matched = outputs["quality"][layers, matches.image, matches.query]
        return {**losses, "loss_quality": (1 - matched.sigmoid()).sum((1, 2)) / num_boxes}


class QualityPostprocessor(Postprocessor):
    def more_fields(self, outputs, image, queries):
        return {"quality": outputs["quality"][image, queries, 0].sigmoid()}


def use_quality(model):
    model.heads._target_ = QualityHeads
    model.heads.update(feature="res5", feature_channels=64)
    model.criterion._target_ = QualityCriterion
    model.criterion.more_weights = {"loss_quality": 0.1}
    model.postprocessor = L(QualityPostprocessor)(classification="${..classification}")


def test_one_more_output(train_and_predict):
    done = train_and_predict(use_quality)
    assert done["metrics"]["loss_quality"] > 0
    assert done["metrics"]["loss_quality_0"] > 0
    found = done["instances"]
    assert found.quality.shape == found.scores.shape
    assert ((found.quality > 0) & (found.quality < 1)).all()
