"""A decoder of one's own that refines boxes layer by layer, with the shipped layers and heads."""

import torch
from detectron2.config import LazyCall as L
from torch import nn

from smca.modeling import DecoderLayer, DecoderOutput


class RefiningDecoder(nn.Module):
    """Every query starts from a box that it has learnt, and each layer moves it."""

    def __init__(self, *, num_queries, num_layers, embed_dim, num_heads):
        super().__init__()
        self.anchors = nn.Embedding(num_queries, 4)
        self.position = nn.Linear(4, embed_dim)
        self.layers = nn.ModuleList(
            DecoderLayer(embed_dim=embed_dim, num_heads=num_heads, ffn_dim=32)
            for _ in range(num_layers)
        )
        self.steps = nn.ModuleList(nn.Linear(embed_dim, 4) for _ in range(num_layers - 1))

    def forward(self, levels, image_sizes, targets=None):
        boxes = self.anchors.weight.expand(len(image_sizes), -1, -1)
        target = torch.zeros_like(self.position(boxes))
        hidden, references = [], []
        for index, layer in enumerate(self.layers):
            if index:
                boxes = boxes + self.steps[index - 1](target)
            target = layer(target, self.position(boxes.sigmoid()), levels)
            hidden.append(target)
            references.append(boxes)
        return DecoderOutput(torch.stack(hidden), image_sizes, torch.stack(references))


def use_refinement(model):
    model.decoder = L(RefiningDecoder)(num_queries=7, num_layers=2, embed_dim=16, num_heads=4)


def test_a_decoder_with_a_box_per_layer(train_and_predict):
    model = train_and_predict(use_refinement, base="detr")["model"].eval()
    for parameter in model.heads.box.parameters():
        nn.init.zeros_(parameter)
    images = model.preprocess_images([{"image": torch.zeros(3, 64, 96)}])
    with torch.no_grad():
        outputs, decoded = model.run_network(images)
    # Heads predict relative to them, and have nothing to add here.
    assert decoded.references.shape == (2, 1, 7, 4)
    assert not torch.equal(*decoded.references)
    shift = torch.zeros(4) if model.heads.size_reference is None else None
    torch.testing.assert_close(outputs["pred_boxes"], (decoded.references + shift).sigmoid())
