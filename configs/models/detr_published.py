"""DETR as published: 100 queries, cross entropy with a "no object" class."""

from detectron2.config import LazyCall as L

from smca.modeling import CrossEntropyClassification

from .detr import model

model.decoder.num_queries = 100
model.classification = L(CrossEntropyClassification)(no_object_weight=0.1)
model.criterion.matcher.class_weight = 1.0
model.criterion.class_weight = 1.0
