import pytest
import torch
from torchvision.ops import box_convert

from helpers.builders import draw_parameters, feature_levels, sizes_tensor
from smca.modeling import Decoder, LearnedQueries, Target
from smca.modeling.plus import (
    AnchorQueries,
    BoxModulation,
    BoxRefinement,
    DenoisingQueries,
    GroupedQueries,
    ReferencePosition,
)

IMAGES = [(70, 112), (96, 50), (60, 60)]
BOXES = torch.tensor([[0.3, 0.4, 0.2, 0.3], [0.6, 0.6, 0.3, 0.2], [0.5, 0.3, 0.1, 0.1]])
TARGETS = [
    Target(torch.tensor([1, 0, 2]), BOXES),
    Target(torch.tensor([], dtype=torch.int64), torch.empty(0, 4)),
    Target(torch.tensor([4]), torch.tensor([[0.5, 0.5, 0.4, 0.4]])),
]
SIZES = torch.ones(3, 2)


def source(**options):
    settings = {"num_classes": 5, "embed_dim": 16, "num_denoising": 8, **options}
    return DenoisingQueries(queries=AnchorQueries(num_queries=2, embed_dim=16), **settings)


def noised(queries, num_denoising=8):
    return queries.references[:, -num_denoising:].sigmoid()


def test_each_query_is_made_of_its_object():
    """Without noise they are the objects: of three, each image's four positives take the first twice."""
    part = source(box_noise=0.0, label_noise=0.0)
    queries = part([], SIZES, TARGETS)
    assert queries.content.shape == (3, 10, 16)
    boxes = noised(queries)
    order = [0, 1, 2, 0, 0, 1, 2, 0]
    torch.testing.assert_close(boxes[0], BOXES[order])
    torch.testing.assert_close(boxes[2], TARGETS[2].boxes.expand(8, 4))
    content = queries.content[:, 2:]
    assert torch.equal(content[0], part.label.weight[TARGETS[0].labels[order]])
    assert torch.equal(content[2], part.label.weight[[4] * 8])
    assert torch.isfinite(queries.references).all()


def test_known_matches_are_the_positives():
    split = source()([], SIZES, TARGETS).split
    outputs = split(
        {"pred_logits": torch.randn(2, 3, 10, 5), "pred_boxes": torch.rand(2, 3, 10, 4)}
    )
    assert outputs["pred_logits"].shape == (2, 3, 2, 5)
    more = outputs["more"]["denoising"]
    assert more.outputs["pred_boxes"].shape == (2, 3, 8, 4)
    matches = more.matches
    for layer in range(2):
        assert matches.image[layer].tolist() == [0, 0, 0, 0, 2, 2, 2, 2]
        assert matches.query[layer].tolist() == [0, 1, 2, 3, 0, 1, 2, 3]
        assert matches.target[layer].tolist() == [0, 1, 2, 0, 0, 0, 0, 0]
    # Four of each image, so that no image counts more than another.
    assert more.num_boxes == 12


def test_corners_move_by_what_is_allowed():
    torch.manual_seed(0)
    box = torch.tensor([[0.5, 0.5, 0.2, 0.4]])
    target = Target(torch.tensor([0]), box)
    boxes = noised(source(num_denoising=4000, box_noise=0.4)([], SIZES[:1], [target]), 4000)[0]
    shifts = (box_convert(boxes, "cxcywh", "xyxy") - box_convert(box, "cxcywh", "xyxy")).abs()
    shares = shifts / torch.tensor([0.1, 0.2, 0.1, 0.2])  # of half sides
    positive, negative = shares[:2000], shares[2000:]
    assert positive.max() < 0.4 + 1e-4
    assert positive.max() > 0.39
    assert positive.min() < 0.01
    assert 0.4 - 1e-4 < negative.min() < 0.41
    assert 0.79 < negative.max() < 0.8 + 1e-4
    # Both ways, and corners by themselves.
    signs = (box_convert(boxes, "cxcywh", "xyxy") > box_convert(box, "cxcywh", "xyxy")).float()
    torch.testing.assert_close(signs.mean(0), torch.full((4,), 0.5), atol=0.05, rtol=0)
    assert torch.corrcoef(shares[:2000].T).fill_diagonal_(0).abs().max() < 0.1


def test_boxes_stay_in_the_image_and_have_sides():
    target = Target(torch.tensor([0]), torch.tensor([[0.05, 0.95, 0.1, 0.1]]))
    boxes = noised(source(num_denoising=400, box_noise=1.0)([], SIZES[:1], [target]), 400)[0]
    corners = box_convert(boxes, "cxcywh", "xyxy")
    assert corners.min() > -1e-3
    assert corners.max() < 1 + 1e-3
    assert (boxes[:, 2:] > 0).all()


@pytest.mark.parametrize(("noise", "wrong"), [(0.0, 0.0), (0.5, 0.4), (1.0, 0.8)])
def test_share_of_wrong_labels(noise, wrong):
    """A drawn label is right by chance, one time in five."""
    torch.manual_seed(0)
    part = source(num_denoising=4000, label_noise=noise)
    content = part([], SIZES[:1], TARGETS[2:]).content[0, 2:]
    changed = (content != part.label.weight[4]).any(1).float()
    for half in changed.split(2000):
        assert half.mean().item() == pytest.approx(wrong, abs=0.04)


def test_who_sees_whom():
    mask = source()([], SIZES, TARGETS).attention_mask
    assert mask.shape == (3, 1, 10, 10)
    assert mask[:, :, :2, :2].all()
    assert not mask[:, :, :2, 2:].any()
    assert not mask[:, :, 2:, :2].any()
    # Groups of three objects and of one; all by themselves where there is none.
    for image, groups in ((0, [0, 0, 0, 1, 0, 0, 0, 1]), (1, range(8)), (2, [0, 1, 2, 3] * 2)):
        group = torch.tensor(list(groups))
        assert torch.equal(mask[image, 0, 2:, 2:], group[:, None] == group)


def test_more_objects_than_queries():
    torch.manual_seed(0)
    target = Target(torch.arange(5), torch.rand(5, 4) * 0.2 + 0.4)
    seen = set()
    for _ in range(20):
        queries = source(num_denoising=4, box_noise=0.0)([], SIZES[:1], [target])
        outputs = queries.split({"pred_logits": torch.zeros(1, 1, 6, 5)})
        more = outputs["more"]["denoising"]
        objects = more.matches.target[0].tolist()
        assert len(set(objects)) == 2
        assert more.num_boxes == 2
        torch.testing.assert_close(noised(queries, 4)[0], target.boxes[objects * 2])
        assert queries.attention_mask[0, 0, 2:, 2:].all()
        seen |= set(objects)
    assert seen == {0, 1, 2, 3, 4}


def test_shapes_do_not_depend_on_the_images():
    part = source()
    crowd = Target(torch.arange(300) % 5, torch.rand(300, 4) * 0.2 + 0.4)
    for targets in (TARGETS, [TARGETS[1]] * 3, [crowd] * 3):
        queries = part([], SIZES, targets)
        assert queries.content.shape == (3, 10, 16)
        assert queries.attention_mask.shape == (3, 1, 10, 10)


def test_images_without_objects_have_negatives():
    part = source()
    queries = part([], SIZES[:1], TARGETS[1:2])
    boxes = noised(queries)[0]
    assert ((boxes[:, 2:] > 0.05) & (boxes[:, 2:] < 0.5)).all()
    outputs = queries.split({"pred_logits": queries.content[None, ..., :5]})
    more = outputs["more"]["denoising"]
    assert more.matches.query.shape == (1, 0)
    assert more.num_boxes == 4
    more.outputs["pred_logits"].sum().backward()
    assert part.label.weight.grad.any()


def test_same_seed_same_noise():
    part = source()
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(part([], SIZES, TARGETS).references)
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def denoising_decoder(queries):
    decoder = Decoder(
        num_layers=2,
        embed_dim=16,
        num_heads=4,
        ffn_dim=24,
        dropout=0.0,
        queries=queries,
        query_position=ReferencePosition(embed_dim=16),
        refinement=BoxRefinement(embed_dim=16, num_layers=2),
        modulation=BoxModulation(embed_dim=16, num_heads=4, num_layers=2),
    )
    return draw_parameters(decoder).double()


@pytest.mark.parametrize("num_groups", [1, 2])
def test_matched_queries_are_decoded_as_in_inference(num_groups):
    """Nothing leaks from the ground truth, whatever is in it; groups and denoising go together."""
    anchors = AnchorQueries(num_queries=3, embed_dim=16)
    decoder = denoising_decoder(
        DenoisingQueries(
            queries=GroupedQueries(queries=anchors, num_groups=num_groups),
            num_classes=5,
            embed_dim=16,
            num_denoising=8,
        )
    )
    levels, sizes = feature_levels(IMAGES, (32,), 16), sizes_tensor(IMAGES)
    targets = [Target(t.labels, t.boxes.double()) for t in TARGETS]
    trained, predicted = decoder(levels, sizes, targets), decoder(levels, sizes)
    assert trained.hidden.shape[2] == 3 * num_groups + 8
    assert predicted.hidden.shape[2] == 3
    torch.testing.assert_close(trained.hidden[:, :, :3], predicted.hidden)
    torch.testing.assert_close(trained.boxes[:, :, :3], predicted.boxes)
    assert predicted.queries.split is None
    assert predicted.queries.attention_mask is None
    names = trained.queries.split({"pred_logits": trained.hidden})["more"].keys()
    assert set(names) == ({"denoising"} if num_groups == 1 else {"denoising", "group1"})


def test_none_is_the_other_source_alone():
    part = source(num_denoising=0)
    assert part.label is None
    queries = part([], SIZES, TARGETS)
    assert queries.split is None
    assert queries.content.shape == (3, 2, 16)


@pytest.mark.parametrize(
    ("name", "value"),
    [("num_denoising", 3), ("num_denoising", -2), ("box_noise", 1.5), ("label_noise", -0.1)],
)
def test_bad_settings_are_refused(name, value):
    with pytest.raises(ValueError, match=f"queries.{name}"):
        source(**{name: value})


def test_points_are_refused():
    part = DenoisingQueries(queries=LearnedQueries(2, 16), num_classes=5, embed_dim=16)
    assert part([], SIZES).references is None
    with pytest.raises(ValueError, match="must give boxes"):
        part([], SIZES, TARGETS)
