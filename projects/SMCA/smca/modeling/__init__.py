from .backbone import TimmBackbone, build_resnet
from .classification import CrossEntropyClassification, FocalClassification
from .criterion import MoreOutputs, SetCriterion
from .decoder import Decoder, LearnedQueries
from .decoder_layer import DecoderLayer, LevelCoAttention
from .encoder import Encoder
from .heads import DetectionHeads
from .matcher import HungarianMatcher, Matches
from .modulation import SpatialModulation, SpatialPrior
from .neck import Neck
from .postprocess import Postprocessor
from .records import DecoderOutput, FeatureLevel, Queries, Target
from .smca_detr import SMCA

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
