"""Every experiment of the zoo runs: loader, optimiser, schedule and evaluation, on a tiny COCO."""

import json

import numpy as np
import pytest
import torch
from detectron2.config import instantiate
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.data.datasets.builtin import _get_builtin_metadata
from omegaconf import OmegaConf
from PIL import Image

from smca import model_zoo
from smca.data import DigitsSpec, register_digits
from smca.engine import RunInputs, iteration_of_epoch, prepare_training
from smca.experiments import apply_overrides

COCO_TRAIN_IMAGES = 118287
# Images per step, iterations in all, iterations of the rate's drops; by hand from 118,287 images.
LENGTHS = {
    "smca_r50_50ep": (8, 739294, [591435]),
    "smca_r50_108ep": (8, 1596875, [1182870]),
    "smca_r101_50ep": (8, 739294, [591435]),
    "smca_single_scale_r50_50ep": (8, 739294, [591435]),
    "smca_single_scale_r50_108ep": (8, 1596875, [1182870]),
    "deformable_detr_single_scale_r50_50ep": (32, 184824, [147859]),
    "deformable_detr_r50_50ep": (32, 184824, [147859]),
    "deformable_detr_refine_r50_50ep": (32, 184824, [147859]),
    "deformable_detr_two_stage_r50_50ep": (32, 184824, [147859]),
    "deformable_detr_r50_150ep": (32, 554471, [443577]),
    "up_detr_r50_150ep": (16, 1108941, [739294]),
    "up_detr_r50_300ep": (16, 2217882, [1478588]),
    "detr_r50_50ep": (8, 739294, [591435]),
    "detr_r50_500ep": (64, 924118, [739294]),
    "detr_r101_500ep": (64, 924118, [739294]),
    "detr_dc5_r50_500ep": (64, 924118, [739294]),
    "detr_dc5_r101_500ep": (64, 924118, [739294]),
    "ablations/head_shared_bs8": (8, 739294, [591435]),
    "ablations/head_shared_bs16": (16, 369647, [295718]),
    "ablations/head_shared_bs32": (32, 184824, [147859]),
    "ablations/multi_head_fixed": (8, 739294, [591435]),
    "ablations/multi_head_single": (8, 739294, [591435]),
    "ablations/no_scale_selection": (8, 739294, [591435]),
    "ablations/encoder_3intra": (8, 739294, [591435]),
    "ablations/encoder_3multi": (8, 739294, [591435]),
    "ablations/encoder_5intra": (8, 739294, [591435]),
    "ablations/encoder_shared_ffn": (8, 739294, [591435]),
    "ablations/encoder_shared_sa": (8, 739294, [591435]),
    "ablations/encoder_no_share": (8, 739294, [591435]),
}
# Beyond the paper: 16 images a step, 12 epochs with a drop before the last, or 50 as in the paper.
PLUS = {
    **{
        name: (16, 88716, [81323])
        for name in (
            "smca_plus_single_scale_r50_12ep",
            "smca_plus_r50_12ep",
            "ablations/plus_none",
            "ablations/plus_boxes",
            "ablations/plus_denoising",
            "ablations/plus_groups",
            "ablations/plus_iou",
        )
    },
    "smca_plus_r50_50ep": (16, 369647, [295718]),
}
DETECTRON2_OWN = "faster_rcnn_fpn_r50_3x"


@pytest.fixture(scope="module")
def tiny_coco(tmp_path_factory):
    """coco_2017_train and coco_2017_val as six images of several sizes, one of them empty."""
    root = tmp_path_factory.mktemp("coco")
    rng = np.random.default_rng(0)
    builtin = {}
    for split in ("train", "val"):
        images, annotations = [], []
        (root / f"{split}2017").mkdir()
        for index in range(6):
            width, height = (int(v) for v in rng.integers(60, 120, 2))
            name = f"{index:012d}.jpg"
            pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / f"{split}2017" / name)
            images.append({"id": index, "file_name": name, "width": width, "height": height})
            for box in range(0 if index == 0 else index):
                x, y = (int(v) for v in rng.integers(0, 30, 2))
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": index,
                        # Ids of COCO with gaps: 90 is the last one of its 80 categories.
                        "category_id": (1, 13, 90)[box % 3],
                        "bbox": [x, y, 25, 20],
                        "area": 500,
                        "iscrowd": 0,
                    }
                )
        metadata = _get_builtin_metadata("coco")
        ids = metadata["thing_dataset_id_to_contiguous_id"]
        categories = [{"id": k, "name": metadata["thing_classes"][v]} for k, v in ids.items()]
        content = {"images": images, "annotations": annotations, "categories": categories}
        path = root / f"instances_{split}2017.json"
        path.write_text(json.dumps(content))
        name = f"coco_2017_{split}"
        builtin[name] = (DatasetCatalog[name], dict(MetadataCatalog.get(name).as_dict()))
        _remove(name)
        register_coco_instances(name, metadata, str(path), str(root / f"{split}2017"))
    register_digits(root=root / "digits", spec=DigitsSpec(train_images=20, val_images=4))
    yield
    register_digits()
    for name, (load, metadata) in builtin.items():
        _remove(name)
        DatasetCatalog.register(name, load)
        metadata.pop("name")
        MetadataCatalog.get(name).set(**metadata)


def _remove(name):
    DatasetCatalog.remove(name)
    MetadataCatalog.remove(name)


def _small_run(name, output_dir):
    """The experiment for two iterations of two small images."""
    cfg = model_zoo.get_config(name)
    overrides = [
        "train.max_iter=2",
        f"train.output_dir={output_dir}",
        "train.init_checkpoint=''",
        "train.device=cpu",
        "train.evaluation.period=0",
        "train.log_period=1",
        "dataloader.train.total_batch_size=2",
        "dataloader.train.num_workers=0",
        "dataloader.test.num_workers=0",
    ]
    if name not in AS_LARGE_AS_ON_COCO and OmegaConf.select(cfg, "model.neck.embed_dim") == 256:
        # Widths and blocks are counted by test_parameter_counts; here they would cost memory and time.
        depth = 50 if "dc5" in name else 18
        overrides += [f"model.backbone.depth={depth}", "model.neck.embed_dim=64"]
        overrides += ["model.encoder.ffn_dim=64"]
    apply_overrides(cfg, overrides)
    for mapper in (cfg.dataloader.train.mapper, cfg.dataloader.test.mapper):
        _shrink_sizes(mapper.augmentations)
    return cfg


def _shrink_sizes(augmentations):
    for augmentation in augmentations:
        if "short_edge_length" in augmentation:
            augmentation.short_edge_length = 64
            augmentation.max_size = 100
            augmentation.sample_style = "choice"
        if "crop_size" in augmentation:
            augmentation.crop_size = [40, 60]
        if "tfm_or_aug" in augmentation:
            _shrink_sizes(augmentation.tfm_or_aug.augs)


AS_LARGE_AS_ON_COCO = {
    "smca_r50_50ep",
    "detr_r50_500ep",
    "smca_plus_single_scale_r50_12ep",
    "deformable_detr_two_stage_r50_50ep",
}

# Their models are those of experiments that differ in length only, and as large.
ANOTHER_LENGTH = {"deformable_detr_r50_150ep", "up_detr_r50_150ep"}


@pytest.mark.parametrize("name", sorted({*model_zoo.list_configs()} - ANOTHER_LENGTH))
def test_two_iterations_reach_every_parameter(name, tiny_coco, tmp_path, monkeypatch):
    # What the frozen norms of the COCO models would be loaded from cannot be downloaded here.
    monkeypatch.setattr("smca.engine.inputs.frozen_norm_without_weights", lambda model: False)
    cfg = _small_run(name, tmp_path)
    inputs = RunInputs(cfg, training=True)
    inputs.check()
    trainer, start, stop = prepare_training(inputs, resume=False)
    assert (start, stop) == (0, 2)
    before = {k: v.clone() for k, v in trainer.model.named_parameters() if not v.requires_grad}
    trainer.train(start, stop)

    trainable = {k: v for k, v in trainer.model.named_parameters() if v.requires_grad}
    assert [k for k, v in trainable.items() if v.grad is None] == []
    assert all(torch.isfinite(v).all() for v in trainable.values())
    assert all(torch.equal(v, trainer.model.get_parameter(k)) for k, v in before.items())
    optimized = {id(p) for group in trainer.optimizer.param_groups for p in group["params"]}
    assert optimized == {id(p) for p in trainable.values()}
    lines = [json.loads(line) for line in (tmp_path / "metrics.json").read_text().splitlines()]
    assert 0 <= lines[-1]["bbox/AP"] <= 100
    assert (tmp_path / "model_final.pth").is_file()


@pytest.mark.parametrize("name", sorted(LENGTHS | PLUS))
def test_length_and_drops_on_coco(name):
    cfg = model_zoo.get_config(name)
    batch, length, drops = (LENGTHS | PLUS)[name]
    assert cfg.dataloader.train.total_batch_size == batch
    per_epoch = COCO_TRAIN_IMAGES / batch
    assert iteration_of_epoch(cfg.train.epochs, per_epoch) == length
    cfg.lr_multiplier.iterations_per_epoch = per_epoch
    cfg.lr_multiplier.max_iter = length
    cfg.lr_multiplier.training_epochs = cfg.train.epochs
    schedule = instantiate(cfg.lr_multiplier)
    assert schedule.milestones == drops
    (drop,) = drops
    assert schedule((drop - 1) / length) == pytest.approx(1.0)
    assert schedule(drop / length) == pytest.approx(0.1)
    assert schedule(0.0) == pytest.approx(1.0)


def test_coco_experiments_are_all_listed():
    coco = {n for n in model_zoo.list_configs() if not n.startswith("digits/")}
    assert coco == {*LENGTHS, *PLUS, DETECTRON2_OWN}


def test_detectron2_own_recipe_keeps_its_length():
    cfg = model_zoo.get_config(DETECTRON2_OWN)
    schedule = instantiate(cfg.lr_multiplier)
    assert cfg.train.max_iter == 270000
    assert cfg.dataloader.train.total_batch_size == 16
    assert schedule(209999 / 270000) == pytest.approx(1.0)
    assert schedule(210001 / 270000) == pytest.approx(0.1)
    assert schedule(250001 / 270000) == pytest.approx(0.01)


@pytest.mark.parametrize("name", sorted(LENGTHS))
def test_recipe_of_the_paper(name):
    cfg = model_zoo.get_config(name)
    optimizer = cfg.optimizer
    deformable, up_detr = name.startswith("deformable"), name.startswith("up_detr")
    rates = (2e-4, 2e-5) if deformable else (1e-4, 5e-5 if up_detr else 1e-5)
    assert (optimizer.lr, optimizer.params.backbone_lr) == rates
    assert optimizer.weight_decay == 1e-4
    assert cfg.train.clip_grad_norm == 0.1
    assert cfg.model.encoder.dropout == cfg.model.decoder.dropout == 0.1
    assert cfg.model.backbone.norm == "FrozenBN"
    assert cfg.model.backbone.freeze_at == 2
    if not up_detr:
        assert cfg.train.init_checkpoint == f"torchvision://resnet{cfg.model.backbone.depth}"
    published = up_detr or (name.startswith("detr") and name.endswith("500ep"))
    assert cfg.model.decoder.num_queries == (100 if published else 300)
    weights = (1.0, 5.0, 2.0) if published else (2.0, 5.0, 2.0)
    for node in (cfg.model.criterion, cfg.model.criterion.matcher):
        assert (node.class_weight, node.box_weight, node.giou_weight) == weights
    assert cfg.dataloader.train.dataset.filter_empty is False


def _name(node):
    """Of a part's class; a config that was loaded holds it, or its dotted name."""
    return getattr(node._target_, "__name__", str(node._target_).rpartition(".")[2])


def _parts(name):
    """Which of A to E an experiment's model has, and how it is described without them."""
    model = model_zoo.get_config(name).model
    queries = model.decoder.get("queries")
    grouped = queries if queries is None or "num_groups" in queries else queries.queries
    return {
        "A": _name(model.decoder.modulation) == "BoxModulation",
        "B": queries is not None and queries.get("num_denoising", 0) > 0,
        "C": queries is not None and grouped.num_groups > 1,
        "D": _name(model.classification) == "IouClassification",
        "E": queries is not None and _name(grouped.queries) == "SelectedQueries",
    }


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("smca_single_scale_r50_50ep", ""),
        ("ablations/plus_none", ""),
        ("ablations/plus_boxes", "A"),
        ("ablations/plus_denoising", "AB"),
        ("ablations/plus_groups", "ABC"),
        ("ablations/plus_iou", "ABCD"),
        ("smca_plus_single_scale_r50_12ep", "ABCDE"),
        ("smca_plus_r50_12ep", "ABCDE"),
        ("smca_plus_r50_50ep", "ABCDE"),
    ],
)
def test_parts_beyond_the_paper_come_one_by_one(name, parts):
    assert "".join(part for part, there in _parts(name).items() if there) == parts
    cfg = model_zoo.get_config(name)
    if name != "smca_single_scale_r50_50ep":
        assert cfg.model.encoder.dropout == 0
    assert (cfg.optimizer.lr, cfg.optimizer.params.backbone_lr) == (1e-4, 1e-5)
    assert cfg.model.decoder.num_queries == 300
