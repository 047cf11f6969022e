#!/usr/bin/env python
"""How long smca-check-dataset takes, and how much memory, on a json of COCO's size, without reading images.

    python benchmarks/check_dataset_scale.py

Makes a json with as many images, boxes and categories as COCO's train2017 has, polygons of realistic length included,
runs the command in a process of its own, and writes seconds and peak memory, its imports included, to a json file.
Where other programs are busy the seconds of the processor tell more than those of the clock.
"""

import argparse
import json
import platform
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import smca

IMAGES, BOXES, CATEGORIES = 118_287, 860_001, 80
POLYGON_POINTS = 26


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument("--boxes", type=int, default=BOXES)
    parser.add_argument("--output", default="benchmarks/results/check_dataset_scale.json")
    args = parser.parse_args()
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        for points in (0, POLYGON_POINTS):
            path = Path(folder) / f"coco_{points}.json"
            write_json(path, images=args.images, boxes=args.boxes, points=points)
            runs.append(
                {"polygon_points": points, "megabytes": path.stat().st_size / 1e6} | check(path)
            )
            print(json.dumps(runs[-1]), flush=True)
            path.unlink()
    report = {
        "images": args.images,
        "boxes": args.boxes,
        "machine": f"{platform.machine()}, Python {platform.python_version()}, one process",
        "smca": smca.__version__,
        "runs": runs,
    }
    Path(args.output).write_text(json.dumps(report, indent=1) + "\n")


def write_json(path: Path, *, images: int, boxes: int, points: int) -> None:
    """A clean data set, written record by record: valid boxes inside 640x480, ids and categories with gaps."""
    rng = np.random.default_rng(0)
    corners = np.sort(rng.uniform(0, 1, (boxes, 2, 2)), axis=1) * [640, 480]
    corner, extent = corners[:, 0].round(2), (corners[:, 1] - corners[:, 0]).round(2).clip(1)
    corner = np.minimum(corner, [639, 479])
    image_of = np.sort(rng.integers(0, images, boxes))
    class_of = rng.integers(0, CATEGORIES, boxes)
    with path.open("w", encoding="utf-8") as file:
        file.write('{"info": {"description": "synthetic"}, "licenses": [], "categories": ')
        json.dump([{"id": k + 1 + k // 8, "name": f"class {k}"} for k in range(CATEGORIES)], file)
        file.write(', "images": [')
        for i in range(images):
            record = {
                "license": 3,
                "file_name": f"{i + 1:012d}.jpg",
                "coco_url": f"http://images.cocodataset.org/train2017/{i + 1:012d}.jpg",
                "height": 480,
                "width": 640,
                "date_captured": "2013-11-14 11:18:45",
                "id": i + 1,
            }
            file.write((", " if i else "") + json.dumps(record))
        file.write('], "annotations": [')
        for i in range(boxes):
            (x, y), (w, h) = corner[i].tolist(), extent[i].tolist()
            label = int(class_of[i])
            record = {
                "area": w * h,
                "iscrowd": 0,
                "image_id": int(image_of[i]) + 1,
                "bbox": [x, y, w, h],
                "category_id": label + 1 + label // 8,
                "id": i + 1,
            }
            if points:
                record["segmentation"] = [[x, y] * points]
            file.write((", " if i else "") + json.dumps(record))
        file.write("]}")


def check(path: Path) -> dict:
    """Run the command; seconds and peak memory of its process, import included."""
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "smca.data_check.command",
        str(path),
        "--no-images",
    ]
    start = time.perf_counter()
    result = subprocess.run(
        [sys.executable, "-c", _MEASURE, *command], capture_output=True, text=True, check=False
    )
    seconds = time.perf_counter() - start
    if "No faults found." not in result.stdout:
        raise SystemExit(f"the check failed: {result.stdout[-500:]} {result.stderr[-2000:]}")
    kilobytes, processor = re.search(r"peak (\d+) kB, processor ([\d.]+) s", result.stderr).groups()
    return {
        "seconds": round(seconds, 1),
        "processor_seconds": round(float(processor), 1),
        "peak_gigabytes": round(int(kilobytes) * 1024 / 1e9, 2),
    }


_MEASURE = """
import resource, subprocess, sys
status = subprocess.run(sys.argv[1:]).returncode
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(f"peak {used.ru_maxrss} kB, processor {used.ru_utime + used.ru_stime} s", file=sys.stderr)
sys.exit(status)
"""


if __name__ == "__main__":
    main()
