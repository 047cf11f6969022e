"""Deformable DETR (arXiv 2010.04159) on the seams of this project: what differs from DETR; the rest is shared."""

from .co_attention import DeformableCoAttention
from .encoder import DeformableEncoder
from .heads import DeformableHeads
from .proposals import EncoderProposals, Proposals
from .queries import ContentQueries, ProposalQueries
from .sampling import ReferenceSampling, SamplingReference

__all__ = [
    "ContentQueries",
    "DeformableCoAttention",
    "DeformableEncoder",
    "DeformableHeads",
    "EncoderProposals",
    "ProposalQueries",
    "Proposals",
    "ReferenceSampling",
    "SamplingReference",
]
