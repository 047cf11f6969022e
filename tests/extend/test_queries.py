"""Queries of one's own that are there in training only, and outputs of theirs with losses of their own names."""

import torch
from detectron2.config import LazyCall as L
from torch import nn

from helpers.builders import feature_levels
from smca.modeling import Decoder, Matches, MoreOutputs, Queries, Target


class TaughtQueries(nn.Module):
    """Two groups of learnt queries, matched each on its own, and a query per object whose match is known."""

    def __init__(self, num_queries, embed_dim, num_classes):
        super().__init__()
        self.groups = nn.Embedding(2 * num_queries, embed_dim)
        self.label = nn.Embedding(num_classes, embed_dim)

    def forward(self, levels, image_sizes, targets=None):
        position = self.groups.weight.expand(len(image_sizes), -1, -1)
        num = position.shape[1] // 2
        if targets is None:
            return Queries(torch.zeros_like(position[:, :num]), position[:, :num])
        most = max(1, *(len(t.labels) for t in targets))
        hints = torch.stack(
            [
                nn.functional.pad(self.label(t.labels), (0, 0, 0, most - len(t.labels)))
                for t in targets
            ]
        )
        position = torch.cat([position, torch.zeros_like(hints)], 1)
        content = torch.cat([torch.zeros_like(position[:, : 2 * num]), hints], 1)
        part = torch.arange(position.shape[1]).div(num, rounding_mode="floor").clamp(max=2)
        mask = part[:, None] == part[None, :]
        known = [(b, q) for b, t in enumerate(targets) for q in range(len(t.labels))]
        return Queries(content, position, attention_mask=mask, split=_Split(num, known))


class _Split:
    def __init__(self, num, known):
        self.num, self.known = num, known

    def __call__(self, outputs):
        parts = [slice(0, self.num), slice(self.num, 2 * self.num), slice(2 * self.num, None)]
        first, second, hinted = (
            {name: value[:, :, part] for name, value in outputs.items()} for part in parts
        )
        layers = len(first["pred_logits"])
        image, query = torch.tensor(self.known).view(-1, 2).T.expand(layers, -1, -1).unbind(1)
        more = {"group1": MoreOutputs(second)}
        more["hints"] = MoreOutputs(hinted, Matches(image, query, query), weight=0.5)
        return {**first, "more": more}


def use_taught_queries(model):
    model.decoder.queries = L(TaughtQueries)(
        num_queries="${..num_queries}", embed_dim="${..embed_dim}", num_classes="${...num_classes}"
    )
    model.decoder.num_queries = 7


def test_queries_for_training_only(train_and_predict):
    done = train_and_predict(use_taught_queries)
    names = (
        "loss_ce",
        "group1_loss_ce",
        "group1_loss_bbox_0",
        "hints_loss_giou",
        "hints_loss_ce_0",
    )
    assert all(name in done["metrics"] for name in names)
    model = done["model"].eval()
    images = model.preprocess_images([{"image": torch.zeros(3, 64, 96)}])
    with torch.no_grad():
        assert model.run_network(images)[0]["pred_logits"].shape == (2, 1, 7, 10)


def test_parts_do_not_see_each_other():
    """What one part holds changes nothing in another."""
    torch.manual_seed(0)
    source = TaughtQueries(3, 16, 5)
    decoder = Decoder(num_layers=2, embed_dim=16, num_heads=4, ffn_dim=8, queries=source).eval()
    levels = [level.with_tokens(level.tokens) for level in feature_levels([(64, 64)], (32,), 16)]
    decoder, sizes = decoder.double(), torch.tensor([[64.0, 64]]).double()
    hidden = [
        decoder(levels, sizes, [Target(torch.tensor(labels), torch.zeros(2, 4))]).hidden
        for labels in ([1, 2], [3, 4])
    ]
    torch.testing.assert_close(hidden[0][:, :, :6], hidden[1][:, :, :6])
    assert not torch.allclose(hidden[0][:, :, 6:], hidden[1][:, :, 6:])
