from .backbone import build_resnet
from .classification import CrossEntropyClassification, FocalClassification
from .criterion import MoreOutputs, SetCriterion
from .decoder import Decoder
from .decoder_layer import DecoderLayer, LevelCoAttention
from .decoder_output import DecoderOutput
from .encoder import Encoder
from .feature_level import FeatureLevel
from .heads import DetectionHeads
from .lazy_model import LazyModel
from .matcher import HungarianMatcher, Matches
from .modulation import SpatialModulation, SpatialPrior
from .neck import Neck
from .postprocess import Postprocessor
from .queries import LearnedQueries, Queries
from .smca_detr import SMCA
from .target import Target
from .timm_backbone import TimmBackbone

__all__ = [
    "SMCA",
    "CrossEntropyClassification",
    "Decoder",
    "DecoderLayer",
    "DecoderOutput",
    "DetectionHeads",
    "Encoder",
    "FeatureLevel",
    "FocalClassification",
    "HungarianMatcher",
    "LazyModel",
    "LearnedQueries",
    "LevelCoAttention",
    "Matches",
    "MoreOutputs",
    "Neck",
    "Postprocessor",
    "Queries",
    "SetCriterion",
    "SpatialModulation",
    "SpatialPrior",
    "Target",
    "TimmBackbone",
    "build_resnet",
]
