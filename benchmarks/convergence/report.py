"""Summary, pictures and tables from the records of finished runs: nothing in them is typed by hand."""

import json
from collections.abc import Mapping
from pathlib import Path

from smca.whole_file import replacing

from . import tables
from .numbers import speedup
from .plan import PARTS
from .plots import draw_by_size, draw_over_steps, draw_over_time
from .settings import SETTINGS
from .store import Store

FINDINGS = Path(__file__).with_name("findings.md")
"""What was found out beside the runs, written by hand; the report takes it over."""


def write_report(store: Store) -> list[Path]:
    """Write ``summary.json``, the pictures and ``README.md``; returns what was written.

    Raises:
        InputError: for a file that is no record of a run.
    """
    results = store.load()
    written = [_write(store.folder / "summary.json", json.dumps(summary(results), indent=1))]
    pictures = draw(store.folder, results)
    findings = FINDINGS.read_text() if FINDINGS.is_file() else ""
    text = page(results, [path.name for path in pictures], findings)
    return [*written, *pictures, _write(store.folder / "README.md", text)]


def summary(results: Mapping[str, Mapping]) -> dict:
    """The numbers of the tables as plain data: per part and variant the seeds' last AP, and the ratio to DETR."""
    parts = {
        part: {
            variant: {
                "seeds": [record["run"]["seed"] for record in records],
                "factor": records[-1]["run"]["factor"],
                **{
                    metric: [record["curve"][-1][metric] for record in records]
                    for metric in ("AP", "AP50", "AP75", "APs", "APm", "APl")
                },
                "training_seconds": [tables.time_of(record["curve"][-1]) for record in records],
            }
            for variant, records in tables.select(results, part).items()
        }
        for part in PARTS
        if part != "sweep"
    }
    main, long = tables.select(results, "main"), tables.select(results, "long_detr")
    found = speedup(main.get("smca_single_scale", []), long.get("detr", []))
    return {
        "parts": parts,
        "detr_over_smca_single_scale": {"ratios": found.ratios, "text": str(found)},
        "against_the_paper": {
            part: tables.order_lines(results, part) for part in ("table2", "table3")
        },
        "commits": sorted({str(record.get("commit")) for record in results.values()}),
        "machines": sorted({record["machine"] for record in results.values()}),
    }


def draw(folder: Path, results: Mapping[str, Mapping]) -> list[Path]:
    """The pictures that there are runs for."""
    main, long = tables.select(results, "main"), tables.select(results, "long_detr")
    written = []

    def wanted(name: str) -> Path:
        written.append(folder / name)
        return written[-1]

    if main:
        draw_over_steps(
            wanted("ap_over_steps.png"), main, title="AP over steps", long=long.get("detr", [])
        )
        unit = f"{main[next(iter(main))][0]['threads']} thread(s) of a CPU"
        draw_over_time(
            wanted("ap_over_time.png"), main, title="AP over time of training", unit=unit
        )
        draw_by_size(wanted("ap_by_size.png"), main, title="AP by size of objects, at equal steps")
    for part in ("table2", "table3"):
        found = tables.select(results, part)
        if found:
            if part == "table2":
                found |= {k: main[k] for k in ("detr", "smca_single_scale") if k in main}
            draw_over_steps(wanted(f"{part}.png"), found, title=f"Rows of the paper's {part}")
    return written


def page(results: Mapping[str, Mapping], pictures: list[str], findings: str) -> str:
    """The README of the results, in Markdown."""
    small, scales = SETTINGS["small"], SETTINGS["scales"]
    beta = small.prior_overrides[0].partition("=")[2]

    def picture(name: str) -> str:
        return f"![{name}]({name})" if name in pictures else ""

    versions = sorted({record["versions"]["torch"] for record in results.values()})
    machines = sorted({record["machine"] for record in results.values()})
    blocks = [
        "# Who learns how fast",
        "Made by `python tools/convergence_study.py report` from the records in `runs/`, a file per training with its "
        "settings, seed, commit and machine; do not edit. `make study` goes on with what has not run. Numbers are AP "
        "on the bundled digits, mean of the seeds and in brackets the lowest and highest of them; what is the paper's "
        "(COCO, ResNet-50 with ImageNet's weights, 50 epochs) stands in columns of its own.",
        f"Small setting: {small.steps} steps of {small.images} images of 128 pixels, `digits_train` and `digits_val`, "
        "bfloat16, a half-width ResNet-18 that has learnt to tell single digits apart on other images (the paper's "
        "has learnt ImageNet); all models but Faster R-CNN have the same 20 queries, matching, losses and optimiser. "
        "Seconds are of training on one thread, without evaluations.",
        f"Run with torch {', '.join(versions)} on {', '.join(machines)}." if results else "",
        "## What has run",
        tables.state_table(results),
        "## How many times longer DETR takes",
        "Steps that DETR needs for the AP that SMCA single-scale has at the end of its training, on the curve of a "
        "training of ten times the length; the learning rate of each drops at four fifths of its own length.",
        tables.speed_table(results),
        "DETR on the way:",
        tables.long_table(results),
        "## All models at equal steps",
        tables.main_table(results),
        picture("ap_over_steps.png"),
        picture("ap_over_time.png"),
        picture("ap_by_size.png"),
        "## Against Faster R-CNN, at equal steps and at equal time",
        tables.equal_time_table(results),
        "## The paper's table 2",
        tables.ablation_table(results, "table2"),
        _against(results, "table2"),
        picture("table2.png"),
        "## The paper's table 3",
        f"{scales.steps} steps of {scales.images} images of 256 pixels with digits of 14 to 128 pixels (`digits256`), "
        "five blocks in the encoder where the row does not say another number.",
        tables.ablation_table(results, "table3"),
        _against(results, "table3"),
        picture("table3.png"),
        "The first row at the learning rate of SMCA single-scale, twice the one above:",
        tables.ablation_table(results, "table3_rate"),
        "With three times the steps; the rate drops at four fifths of them:",
        tables.long_table(results, "table3_long"),
        "## The paper's bandwidth as it is, and a backbone from scratch",
        f"SMCA single-scale; the rows above have beta {beta}, class weight 2 and a backbone that knows digits.",
        tables.ablation_table(results, "causes"),
        "## Learning rates",
        "AP on 400 other images made of the training's writers and photographs, by factor on the experiment's rates "
        "(all of them, also the backbone's); a sweep goes on until its best is not at its edge. Rows of table 2 have "
        "the rate of SMCA single-scale, those of table 3 and the large setting the rates of the small setting, as the "
        "paper has one rate.",
        tables.rates_table(results),
        "## The large setting, for a GPU",
        tables.main_table(results, "gpu"),
        findings.strip(),
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _against(results: Mapping[str, Mapping], part: str) -> str:
    lines = tables.order_lines(results, part)
    if not lines:
        return ""
    return "Other than in the paper, and beyond the seeds' spread:\n\n" + "\n".join(
        f"- {line}" for line in lines
    )


def _write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        partial.write_text(text.rstrip("\n") + "\n")
    return path
