"""The models of the study."""

from dataclasses import dataclass

_SINGLE, _FULL = "digits/smca_single_scale", "digits/smca"


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A model of the study.

    Attributes:
        title: in tables and plots.
        experiment: of the model zoo.
        overrides: of its fields.
        rate_of: the variant whose sweep gives the learning rate, where it is not its own.
        pretrained: whether it starts from the setting's backbone, or from scratch.
        paper: the experiment whose AP the paper prints, see :mod:`smca.analysis.paper`.
    """

    title: str
    experiment: str
    overrides: tuple[str, ...] = ()
    rate_of: str | None = None
    paper: str | None = None
    pretrained: bool = True

    @property
    def is_rcnn(self) -> bool:
        """Whether it has Faster R-CNN's fields."""
        return "faster_rcnn" in self.experiment

    @property
    def has_prior(self) -> bool:
        """Whether it has the paper's spatial prior."""
        return self.experiment in (_SINGLE, _FULL)


# The digits' own recipe.
_FROM_SCRATCH = ("optimizer.params.backbone_lr=1e-3",)


def _single(title: str, paper: str | None, *overrides: str, pretrained: bool = True) -> Variant:
    return Variant(
        title=title,
        experiment=_SINGLE,
        overrides=overrides,
        rate_of="smca_single_scale",
        paper=f"ablations/{paper}" if paper else None,
        pretrained=pretrained,
    )


def _encoder(title: str, paper: str, *overrides: str) -> Variant:
    """Of table 3: five blocks of the encoder unless it is about them."""
    return Variant(
        title=title,
        experiment=_FULL,
        overrides=("model.encoder.blocks=2Intra-Multi-2Intra", *overrides),
        rate_of="smca",
        paper=paper,
    )


VARIANTS = {
    "smca_single_scale": Variant(
        title="SMCA single-scale", experiment=_SINGLE, paper="smca_single_scale_r50_50ep"
    ),
    "detr": Variant(title="DETR", experiment="digits/detr", paper="detr_r50_50ep"),
    "smca": Variant(title="SMCA", experiment=_FULL, paper="smca_r50_50ep"),
    "faster_rcnn": Variant(
        title="Faster R-CNN FPN", experiment="digits/faster_rcnn", paper="faster_rcnn_fpn_r50_3x"
    ),
    "smca_plus": Variant(title="SMCA plus", experiment="digits/smca_plus"),
    "deformable_detr": Variant(
        title="Deformable DETR",
        experiment="digits/deformable_detr",
        paper="deformable_detr_r50_50ep",
    ),
    "fixed": _single("fixed", "multi_head_fixed", "model.decoder.modulation.scale=fixed"),
    "single": _single("single", "multi_head_single", "model.decoder.modulation.scale=single"),
    "head_shared": _single(
        "head-shared", "head_shared_bs8", "model.decoder.modulation.per_head=False"
    ),
    "fixed_wide": _single(
        "fixed, beta 8",
        None,
        "model.decoder.modulation.scale=fixed",
        "model.decoder.modulation.beta=8",
    ),
    "independent_wide": _single("independent, beta 8", None, "model.decoder.modulation.beta=8"),
    "scratch": _single("from scratch", None, *_FROM_SCRATCH, pretrained=False),
    "scratch_class_weight_10": _single(
        "from scratch, class weight 10",
        None,
        *_FROM_SCRATCH,
        "model.criterion.class_weight=10",
        pretrained=False,
    ),
    "2intra_multi_2intra": _encoder("SMCA (2Intra-Multi-2Intra)", "smca_r50_50ep"),
    "no_scale_selection": _encoder(
        "without scale selection",
        "ablations/no_scale_selection",
        "model.decoder.modulation.scale_selection=False",
    ),
    "3intra": _encoder("3Intra", "ablations/encoder_3intra", "model.encoder.blocks=3Intra"),
    "3multi": _encoder("3Multi", "ablations/encoder_3multi", "model.encoder.blocks=3Multi"),
    "5intra": _encoder("5Intra", "ablations/encoder_5intra", "model.encoder.blocks=5Intra"),
    "shared_ffn": _encoder(
        "shared FFN", "ablations/encoder_shared_ffn", "model.encoder.share_attention=False"
    ),
    "shared_sa": _encoder(
        "shared SA", "ablations/encoder_shared_sa", "model.encoder.share_ffn=False"
    ),
    "no_share": _encoder(
        "no share",
        "ablations/encoder_no_share",
        "model.encoder.share_attention=False",
        "model.encoder.share_ffn=False",
    ),
}
"""Main variants first: tables and plots keep this order."""
