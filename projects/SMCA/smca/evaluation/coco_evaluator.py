"""COCO box evaluation with all twelve numbers, by the fastest exact implementation at hand.

Legend of the arrays that every implementation leaves behind: T IoU thresholds, R recall thresholds,
K categories (in the order of their sorted ids), A area ranges (all, small, medium, large), M limits
on detections per image. Entries are -1 where a category has no ground truth.
"""

import contextlib
import copy
import io
import itertools
import json
import logging
import os
import time
from collections import OrderedDict

import detectron2.utils.comm as comm
import numpy as np
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import COCOEvaluator
from detectron2.utils.file_io import PathManager
from detectron2.utils.logger import create_small_table
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from tabulate import tabulate

from smca.errors import InputError
from smca.whole_file import replacing

from .coco_backend import resolve_backend
from .ground_truth import load_ground_truth
from .outcome import Boxes, CocoOutcome


class CocoEvaluator(COCOEvaluator):
    """Detectron2's ``COCOEvaluator`` for boxes, with AR, AP per class and a choice of backend.

    The parent collects the predictions of all ranks. Reading the annotations, any registered data
    set's and not only a json's, and what happens to predictions then is done here, because releases
    of Detectron2 differ there. On the main process
    ``evaluate`` returns
    ``{"bbox": {"AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm",
    "ARl", "AP-<class>", ...}}`` in percent, on other ranks an empty dict. A number without ground
    truth to measure it on (no large object, say) is NaN. Without predictions the others are 0.

    Attributes:
        outcome: of the last evaluation, for a closer look, on the main process; None before the first, and of data
            without annotations.
    """

    def __init__(
        self,
        dataset_name: str,
        output_dir: str | None = None,
        *,
        max_dets_per_image: int | None = None,
        backend: str = "auto",
    ) -> None:
        """
        Args:
            dataset_name: a registered data set, a COCO json or the user's own code; one that makes
                its own files is made now if it has not been.
            output_dir: where to leave the predictions ("coco_instances_results.json"), if anywhere.
            max_dets_per_image: limit for every number but AR1 and AR10; COCO's is 100. With another
                limit N, AR100 is called ARN.
            backend: see ``resolve_backend``.

        Raises:
            InputError: the data set is not registered, its annotation file is no COCO json, the
                limit is not above 10, or the backend is not usable here.
        """
        if max_dets_per_image is not None and max_dets_per_image <= 10:
            raise InputError(
                f"max_dets_per_image is {max_dets_per_image}; it must be above 10, since AR1 and "
                "AR10 are always measured."
            )
        self._backend, self._coco_eval_class = resolve_backend(backend)
        if dataset_name not in DatasetCatalog.list():
            raise InputError(
                f"Data set '{dataset_name}' is not registered; register it with "
                "detectron2.data.datasets.register_coco_instances first."
            )
        # Not the parent's constructor, which reads the json again, or writes one for other data sets.
        self._logger = logging.getLogger(__name__)
        self._distributed = True
        self._output_dir = output_dir
        self._cpu_device = torch.device("cpu")
        self._max_dets_per_image = [1, 10, max_dets_per_image or 100]
        self._truth = load_ground_truth(dataset_name)
        self._metadata = MetadataCatalog.get(dataset_name)
        self._coco_api = self._truth.coco
        self._do_evaluation = self._truth.has_annotations
        self.outcome: CocoOutcome | None = None
        self._logger.info(f"COCO evaluation of '{dataset_name}' uses {self._backend}.")

    def evaluate(self, img_ids: list[int] | None = None) -> dict:
        """Evaluate what ``process`` has seen; must be called on every rank.

        Args:
            img_ids: ids of the images to evaluate on, by default all of the data set.
        """
        results = super().evaluate(img_ids=img_ids)
        is_reporting = comm.is_main_process() or not self._distributed
        if is_reporting and self._do_evaluation and "bbox" not in results:
            # The parent returns nothing if no image was processed, which would hide that AP is 0.
            self._results = OrderedDict()
            self._eval_predictions([], img_ids=img_ids)
            results = copy.deepcopy(self._results)
        return results

    def _eval_predictions(self, predictions: list[dict], img_ids: list[int] | None = None) -> None:
        detections = self._with_dataset_category_ids(
            itertools.chain.from_iterable(p.get("instances", ()) for p in predictions)
        )
        if self._output_dir:
            PathManager.mkdirs(self._output_dir)
            path = os.path.join(self._output_dir, "coco_instances_results.json")
            with replacing(path) as partial:
                partial.write_text(json.dumps(detections))
        if not self._do_evaluation:
            self._logger.info("Annotations are not available for evaluation.")
            return

        start = time.perf_counter()
        self._logger.info(f"Evaluating {len(detections)} boxes with {self._backend} ...")
        # The implementations print progress and a summary of their own, each in its own words.
        with contextlib.redirect_stdout(io.StringIO()):
            found = self._as_coco(detections)
            coco_eval = self._coco_eval_class(self._coco_api, found, "bbox")
            coco_eval.params.maxDets = list(self._max_dets_per_image)
            if img_ids is not None:
                coco_eval.params.imgIds = [self._truth.image_numbers[i] for i in img_ids]
            coco_eval.evaluate()
            coco_eval.accumulate()
        self._logger.info(f"Evaluation took {time.perf_counter() - start:.2f} s.")

        numbers = _summarize(coco_eval)
        names = self._category_names()
        per_class = self._with_absent_classes(_average_precision_per_category(coco_eval, names))
        self.outcome = CocoOutcome(
            dataset_name=self._metadata.name,
            numbers=dict(numbers),
            class_ap=per_class,
            class_names=tuple(names),
            precision=np.array(coco_eval.eval["precision"])[..., 0, -1],
            iou_thresholds=np.asarray(coco_eval.params.iouThrs),
            recall_thresholds=np.asarray(coco_eval.params.recThrs),
            max_detections=self._max_dets_per_image[-1],
            image_numbers=tuple(coco_eval.params.imgIds),
            detections=Boxes.from_annotations(found.dataset["annotations"]),
            truth=self._truth,
        )
        self._log_tables(numbers, per_class)
        numbers.update((f"AP-{name}", value) for name, value in per_class.items())
        self._results["bbox"] = numbers

    def _with_dataset_category_ids(self, detections) -> list[dict]:
        """Copies with the data set's own category ids in place of contiguous ones."""
        id_map = self._metadata.get("thing_dataset_id_to_contiguous_id")
        if id_map is None:
            return [dict(d) for d in detections]
        dataset_id = {contiguous: original for original, contiguous in id_map.items()}
        count = max(len(dataset_id), len(self._metadata.get("thing_classes") or ()))
        converted = []
        for d in detections:
            if not 0 <= d["category_id"] < count:
                raise InputError(
                    f"The model predicted class {d['category_id']}, but data set "
                    f"'{self._metadata.name}' has {count} classes (0 to {count - 1}); build the "
                    "model with that number of classes."
                )
            # Of a class that was trained on and that this data set has no category for, nothing
            # can be said.
            if d["category_id"] in dataset_id:
                converted.append({**d, "category_id": dataset_id[d["category_id"]]})
        return converted

    def _as_coco(self, detections: list[dict]) -> COCO:
        """``COCO.loadRes`` for boxes, under the ground truth's numbers; also of an empty list."""
        truth = self._truth
        unknown = [d["image_id"] for d in detections if d["image_id"] not in truth.image_numbers]
        if unknown:
            raise InputError(
                f"There are predictions for image id {unknown[0]}, which the annotations do "
                "not have; evaluate on the data set that the images came from."
            )
        # A model without a map from classes to categories may predict what no category is.
        usable = [d for d in detections if d["category_id"] in truth.category_numbers]
        annotations = [
            {
                **d,
                "id": number,
                "image_id": truth.image_numbers[d["image_id"]],
                "category_id": truth.category_numbers[d["category_id"]],
                "area": d["bbox"][2] * d["bbox"][3],
                "iscrowd": 0,
            }
            for number, d in enumerate(usable, start=1)
        ]
        coco = COCO()
        coco.dataset = {**self._coco_api.dataset, "annotations": annotations}
        coco.createIndex()
        return coco

    def _category_names(self) -> list[str]:
        """Names of the K categories: the metadata's where it has them, else the data set's."""
        id_map = self._metadata.get("thing_dataset_id_to_contiguous_id") or {}
        classes = self._metadata.get("thing_classes") or []
        names = []
        for category_id, name in self._truth.category_names.items():
            index = id_map.get(category_id, len(classes))
            names.append(classes[index] if index < len(classes) else name)
        return names

    def _with_absent_classes(self, per_class: dict[str, float]) -> dict[str, float]:
        """Classes of the model without a category in this data set are listed, too."""
        classes = self._metadata.get("thing_classes") or ()
        return per_class | {name: float("nan") for name in classes if name not in per_class}

    def _log_tables(self, numbers: dict[str, float], per_class: dict[str, float]) -> None:
        precisions = {k: v for k, v in numbers.items() if k.startswith("AP")}
        recalls = {k: v for k, v in numbers.items() if k.startswith("AR")}
        self._logger.info("Evaluation results for bbox: \n" + create_small_table(precisions))
        self._logger.info("Average recall for bbox: \n" + create_small_table(recalls))
        if any(np.isnan(v) for v in numbers.values()):
            self._logger.info("nan: the data set has no such objects.")
        columns = min(3, len(per_class))
        if columns:
            cells = list(itertools.chain.from_iterable(per_class.items()))
            rows = [cells[i : i + 2 * columns] for i in range(0, len(cells), 2 * columns)]
            table = tabulate(
                rows,
                headers=["category", "AP"] * columns,
                tablefmt="pipe",
                floatfmt=".3f",
                numalign="left",
            )
            self._logger.info("Per-category bbox AP: \n" + table)


def _mean_percent(values: np.ndarray) -> float:
    measured = values[values > -1]
    return float(measured.mean() * 100) if measured.size else float("nan")


def _summarize(coco_eval: COCOeval) -> OrderedDict[str, float]:
    """The twelve numbers of COCO, in its order, in percent, from accumulated arrays."""
    precision = np.asarray(coco_eval.eval["precision"])[..., -1]  # (T, R, K, A)
    recall = np.asarray(coco_eval.eval["recall"])  # (T, K, A, M)
    thresholds = np.asarray(coco_eval.params.iouThrs)
    numbers = OrderedDict(AP=_mean_percent(precision[..., 0]))
    for iou in (0.5, 0.75):
        at_iou = precision[np.isclose(thresholds, iou)]
        numbers[f"AP{round(iou * 100)}"] = _mean_percent(at_iou[..., 0])
    for area, suffix in enumerate("sml", start=1):
        numbers[f"AP{suffix}"] = _mean_percent(precision[..., area])
    for index, limit in enumerate(coco_eval.params.maxDets):
        numbers[f"AR{limit}"] = _mean_percent(recall[..., 0, index])
    for area, suffix in enumerate("sml", start=1):
        numbers[f"AR{suffix}"] = _mean_percent(recall[..., area, -1])
    return numbers


def _average_precision_per_category(coco_eval: COCOeval, names: list[str]) -> dict[str, float]:
    precision = np.asarray(coco_eval.eval["precision"])[..., 0, -1]  # (T, R, K)
    return {name: _mean_percent(precision[..., k]) for k, name in enumerate(names)}
