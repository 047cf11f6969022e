"""COCO 2017 with DETR's augmentation: flip, then either resize, or resize, crop and resize."""

import detectron2.data.transforms as T
from detectron2.config import LazyCall as L

from smca.data import DetectionMapper, TrainLoader, build_test_loader, load_detection_dataset
from smca.evaluation import CocoEvaluator

_SHORT_EDGES = [480, 512, 544, 576, 608, 640, 672, 704, 736, 768, 800]

dataloader = dict(
    train=L(TrainLoader)(
        dataset=L(load_detection_dataset)(names="coco_2017_train", filter_empty=False),
        mapper=L(DetectionMapper)(
            is_train=True,
            augmentations=[
                L(T.RandomFlip)(prob=0.5, horizontal=True),
                L(T.RandomApply)(
                    tfm_or_aug=L(T.AugmentationList)(
                        augs=[
                            L(T.ResizeShortestEdge)(
                                short_edge_length=[400, 500, 600], sample_style="choice"
                            ),
                            L(T.RandomCrop)(crop_type="absolute_range", crop_size=[384, 600]),
                        ]
                    ),
                    prob=0.5,
                ),
                L(T.ResizeShortestEdge)(
                    short_edge_length=_SHORT_EDGES, max_size=1333, sample_style="choice"
                ),
            ],
            image_format="${model.input_format}",
            use_instance_mask=False,
        ),
        total_batch_size=8,
        num_workers=4,
        seed="${train.seed}",
    ),
    test=L(build_test_loader)(
        dataset=L(load_detection_dataset)(names="coco_2017_val", filter_empty=False),
        mapper=L(DetectionMapper)(
            is_train=False,
            augmentations=[L(T.ResizeShortestEdge)(short_edge_length=800, max_size=1333)],
            image_format="${model.input_format}",
        ),
        batch_size=1,
        num_workers=4,
    ),
    evaluator=L(CocoEvaluator)(dataset_name="${..test.dataset.names}"),
)
