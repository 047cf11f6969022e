import pytest
import torch

from smca.modeling.plus import AnchorQueries


def test_boxes_start_all_over_the_image():
    torch.manual_seed(0)
    source = AnchorQueries(num_queries=200, embed_dim=8, initial_side=0.3)
    sizes = torch.tensor([[100.0, 50], [70, 80]])
    queries = source([], sizes)
    boxes = queries.references.sigmoid()
    assert boxes.shape == (2, 200, 4)
    assert torch.equal(boxes[0], boxes[1])
    torch.testing.assert_close(boxes[..., 2:], torch.full((2, 200, 2), 0.3))
    low, high = boxes[0, :, :2].amin(0), boxes[0, :, :2].amax(0)
    assert (low < 0.1).all()
    assert (high > 0.9).all()
    assert torch.equal(queries.content[1], source.content.weight)
    assert queries.position.shape == (2, 200, 8)
    assert not queries.position.any()


def test_sizes_in_pixels():
    """Small boxes have the same pixels in any image: logits are shifted by the logarithm of the ratio."""
    source = AnchorQueries(num_queries=3, embed_dim=8, initial_side=0.01, size_reference=128)
    boxes = source([], torch.tensor([[256.0, 128], [64, 512]])).references.sigmoid()
    pixels = boxes * torch.tensor([[256.0, 128, 256, 128], [64, 512, 64, 512]])[:, None]
    torch.testing.assert_close(pixels[..., 2:], torch.full((2, 3, 2), 1.28), rtol=0.02, atol=0)
    plain = AnchorQueries(num_queries=3, embed_dim=8, initial_side=0.01)
    plain.load_state_dict(source.state_dict())
    same = plain([], torch.tensor([[128.0, 128]])).references
    torch.testing.assert_close(source([], torch.tensor([[128.0, 128]])).references, same)
    torch.testing.assert_close(boxes[0, :, :2], same[0, :, :2].sigmoid())


@pytest.mark.parametrize(
    ("name", "value"),
    [("initial_side", 0), ("initial_side", 1.0), ("size_reference", -3), ("size_reference", 0)],
)
def test_bad_settings_are_refused(name, value):
    with pytest.raises(ValueError, match=f"queries.{name}"):
        AnchorQueries(num_queries=3, embed_dim=8, **{name: value})
