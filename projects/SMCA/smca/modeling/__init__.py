from .backbone import build_resnet
from .classification import CrossEntropyClassification, FocalClassification
from .criterion import SetCriterion
from .decoder import Decoder
from .encoder import Encoder
from .feature_level import FeatureLevel
from .heads import DetectionHeads
from .lazy_model import LazyModel
from .matcher import HungarianMatcher, Target
from .modulation import SpatialModulation, SpatialPrior
from .neck import Neck
from .postprocess import FocalPostprocessor, SoftmaxPostprocessor
from .smca_detr import SMCA

__all__ = [
    "SMCA",
    "CrossEntropyClassification",
    "Decoder",
    "DetectionHeads",
    "Encoder",
    "FeatureLevel",
    "FocalClassification",
    "FocalPostprocessor",
    "HungarianMatcher",
    "LazyModel",
    "Neck",
    "SetCriterion",
    "SoftmaxPostprocessor",
    "SpatialModulation",
    "SpatialPrior",
    "Target",
    "build_resnet",
]
