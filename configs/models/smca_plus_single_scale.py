"""Single-scale SMCA whose prior follows boxes (A), with a field for each further part: B to E, off here.

B  model.decoder.queries.num_denoising=100                noised objects as further queries
C  model.decoder.queries.queries.num_groups=4             as many groups of queries, matched each on its own
D  use_iou_classification(model)                          classes learn how well the box fits
E  use_query_selection(model)                             queries start at the encoder's best proposals
"""

from detectron2.config import LazyCall as L

from smca.modeling.plus import (
    AnchorQueries,
    BoxModulation,
    BoxRefinement,
    DenoisingQueries,
    GroupedQueries,
    ReferencePosition,
)

from .smca_single_scale import model

model.decoder.modulation = L(BoxModulation)(
    embed_dim="${..embed_dim}",
    num_heads="${..num_heads}",
    num_layers="${..num_layers}",
    num_levels="${..num_levels}",
    scale_selection=False,
    typical_side=96.0,
)
model.decoder.queries = L(DenoisingQueries)(
    num_classes="${...num_classes}",
    embed_dim="${..embed_dim}",
    num_denoising=0,
    box_noise=0.4,
    label_noise=0.25,
    queries=L(GroupedQueries)(
        num_groups=1,
        queries=L(AnchorQueries)(
            num_queries="${....num_queries}",
            embed_dim="${....embed_dim}",
            initial_side=0.2,
            size_reference=None,
        ),
    ),
)
model.decoder.query_position = L(ReferencePosition)(embed_dim="${..embed_dim}", temperature=20.0)
model.decoder.refinement = L(BoxRefinement)(
    embed_dim="${..embed_dim}",
    num_layers="${..num_layers}",
    share_layers=True,
    look_forward_twice=True,
)
model.heads.predict_boxes = False
