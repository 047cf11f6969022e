"""Full SMCA on your own COCO-format data: two json files and two folders of images are all it needs.

    python train_net.py --config-file configs/custom_coco.py \\
        data.train_json=train.json data.train_images=train data.val_json=val.json data.val_images=val

Classes come from the training json; those of the other are matched by name. Images that lie beside their json need no
data.train_images and data.val_images. Data in YOLO's or Pascal VOC's format are data.train_json=data.yaml or
data.train_json=FOLDER, where data.val_json may stay null; data.train_split and data.val_split name other splits.
"""

from detectron2.config import LazyCall as L

from smca.data import load_custom_dataset

from .smca_r50_50ep import dataloader, lr_multiplier, model, optimizer, train

data = dict(
    train_json=None,
    train_images=None,
    train_split=None,
    val_json=None,
    val_images=None,
    val_split=None,
)

dataloader.train.dataset = L(load_custom_dataset)(
    names="custom_train",
    json_file="${data.train_json}",
    image_root="${data.train_images}",
    field="data.train",
    split="${data.train_split}",
    filter_empty=False,
)
dataloader.test.dataset = L(load_custom_dataset)(
    names="custom_val",
    json_file="${data.val_json}",
    image_root="${data.val_images}",
    field="data.val",
    split="${data.val_split}",
    classes_from="${data.train_json}",
    filter_empty=False,
)

# Null: as many as the data set has.
model.num_classes = None

train.output_dir = "./output/custom_coco"
