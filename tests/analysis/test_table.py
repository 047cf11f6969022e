"""The tables of tools/analyze_model.py and the paper's numbers in them."""

import importlib.util
import json

import pytest
import torch
from detectron2.config import LazyCall as L

from helpers.builders import ROOT
from smca import model_zoo
from smca.analysis import (
    PAPER,
    RELEASED,
    analyze_experiments,
    format_tables,
    input_size,
    time_ratio,
)
from smca.errors import InputError

# Not in the paper's tables.
ONLY_RELEASED = {"deformable_detr_refine_r50_50ep", "deformable_detr_two_stage_r50_50ep"}


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location(
        "analyze_model_tool", ROOT / "tools" / "analyze_model.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def tables(text):
    """Markdown tables as lists of rows by header."""
    found, current = [], None
    for line in text.splitlines():
        if not line.startswith("|"):
            current = None
            continue
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if current is None:
            current = (cells, [])
            found.append(current)
        elif not set(line) <= set("|:-"):
            current[1].append(dict(zip(current[0], cells, strict=True)))
    return [rows for _, rows in found]


def test_the_paper_has_a_row_for_every_experiment_but_the_digits_and_what_is_beyond_it():
    others = ("digits/", "smca_plus_", "ablations/plus_")
    names = {name for name in model_zoo.list_configs() if not name.startswith(others)}

    assert set(PAPER) == names - ONLY_RELEASED


def test_the_papers_claims_hold_among_its_numbers():
    """Sentences of the paper's text, as a check on the typing."""
    full, longer = PAPER["smca_r50_50ep"], PAPER["smca_r50_108ep"]
    baseline, shared = PAPER["detr_r50_50ep"], PAPER["ablations/head_shared_bs8"]
    fixed, single = PAPER["ablations/multi_head_fixed"], PAPER["ablations/multi_head_single"]
    independent = PAPER["smca_single_scale_r50_50ep"]
    assert (full.ap, longer.ap) == (43.7, 45.6)
    assert shared.ap - baseline.ap == pytest.approx(5.4)
    assert fixed.ap - baseline.ap == pytest.approx(3.7)
    assert single.ap - fixed.ap == pytest.approx(1.9)
    assert independent.ap - single.ap == pytest.approx(0.6)
    assert full.ap - PAPER["ablations/no_scale_selection"].ap == pytest.approx(1.1)
    assert time_ratio(full) == pytest.approx(0.100 / 0.038)
    assert time_ratio(PAPER["detr_r50_500ep"]) == 1
    assert time_ratio(baseline) is None
    assert time_ratio(None) is None
    for result in PAPER.values():
        assert result.ap75 is None or result.ap75 < result.ap50
        assert result.ap_s is None or result.ap_s < result.ap_m < result.ap_l


def test_input_size_is_the_configs_own():
    assert input_size("a", model_zoo.get_config("smca_r50_50ep")) == (800, 1066)
    assert input_size("b", model_zoo.get_config("digits/smca")) == (128, 128)
    config = model_zoo.get_config("digits/smca")
    config.dataloader.test.mapper.augmentations = []
    with pytest.raises(ValueError, match="config c does not say how test images are resized"):
        input_size("c", config)


def test_markdown_keeps_ours_and_the_papers_numbers_apart(tool, capsys):
    names = ["smca_r50_50ep", "digits/smca", "ablations/encoder_no_share"]
    names += ["smca_r101_50ep", "smca_single_scale_r50_50ep"]
    assert tool.main([*names, "--markdown"]) == 0

    cost, accuracy = tables(capsys.readouterr().out)
    assert [row["config"] for row in cost] == names
    full, digits, no_share, r101, single = cost
    assert full == {
        "config": "smca_r50_50ep",
        "input": "800x1066",
        "M trainable": "39.53",
        "M total": "39.75",
        "backbone": "23.23",
        "neck": "5.51",
        "encoder": "3.95",
        "decoder": "6.69",
        "heads": "0.15",
        "GFLOPs": "133.9",
        "act. MiB": full["act. MiB"],
        "act. MiB, fused": full["act. MiB, fused"],
        "paper: M": "39.5",
        "paper: GFLOPs": "152",
        "paper: time / DETR": "2.63",
    }
    assert int(full["act. MiB, fused"]) < int(full["act. MiB"]) / 2
    assert (digits["input"], digits["paper: M"]) == ("128x128", "–")
    assert (no_share["M trainable"], no_share["paper: M"]) == ("47.41", "47.3")
    assert no_share["paper: GFLOPs"] == "–"
    # No decimals that the paper does not print.
    assert (r101["paper: M"], single["paper: M"]) == ("58", "41.0")
    assert accuracy[:2] == [
        {
            "config": "smca_r50_50ep",
            "paper: epochs": "50",
            "paper: AP": "43.7",
            "paper: AP50": "63.6",
            "paper: AP75": "47.2",
            "paper: APS": "24.2",
            "paper: APM": "47.0",
            "paper: APL": "60.4",
        },
        {
            "config": "ablations/encoder_no_share",
            "paper: epochs": "50",
            "paper: AP": "42.3",
            **{f"paper: {key}": "–" for key in ("AP50", "AP75", "APS", "APM", "APL")},
        },
    ]


def test_latency_json_and_a_config_of_ones_own(tool, tmp_path, capsys):
    config_file = ROOT / "configs" / "digits" / "smca_single_scale.py"
    file = tmp_path / "numbers.json"
    arguments = ["--config-file", str(config_file), "--input-size", "64x96", "--json", str(file)]

    assert tool.main([*arguments, "--latency", "--repeat", "1", "--device", "cpu"]) == 0

    printed = capsys.readouterr().out
    assert "time / DETR" in printed
    assert f"torch {torch.__version__}, {torch.get_num_threads()} CPU thread(s)" in printed
    data = json.loads(file.read_text())
    assert data["torch"] == torch.__version__
    assert data["threads"] == torch.get_num_threads()
    assert data["machine"]
    (row,) = data["experiments"]
    assert (row["config"], row["input_size"], row["paper"]) == (str(config_file), [64, 96], None)
    latency = row["ours"]["latency"]
    assert latency["seconds"] > 0
    # A small model next to a ResNet-50 with twelve layers of transformer.
    assert 0 < latency["ratio"] < 1
    assert [path.name for path in tmp_path.iterdir()] == ["numbers.json"]


def test_detr_is_its_own_measure(tool, capsys):
    """Equal models at equal sizes are one measurement."""
    arguments = "detr_r50_500ep --input-size 32x32 --latency --repeat 1 --device cpu --markdown"
    assert tool.main(arguments.split()) == 0

    cost, _ = tables(capsys.readouterr().out)
    assert [(row["time / DETR"], row["paper: time / DETR"]) for row in cost] == [("1.00", "1.00")]


def test_all_lists_the_papers_order_first_and_digits_last(tool):
    args = tool.build_parser().parse_args(["--all"])
    names = list(tool._configs(args))

    assert names[: len(PAPER)] == list(PAPER)
    assert sorted(names) == model_zoo.list_configs()


@pytest.mark.parametrize("number", [80, 3])
def test_a_config_for_data_of_ones_own_is_counted_for_some_classes(tool, capsys, number):
    arguments = ["digits/custom_coco", "--input-size", "32x32", "--num-classes", str(number)]
    assert tool.main(arguments) == 0
    assert "digits/custom_coco" in capsys.readouterr().out
    configs = tool._configs(tool.build_parser().parse_args(arguments))
    assert configs["digits/custom_coco"].model.num_classes == number


def test_a_model_that_fails_is_named():
    config = model_zoo.get_config("digits/smca")
    config.model.encoder.blocks = "2Intra-Many"

    with pytest.raises(ValueError, match=r"model of config mine fails on a 64x96 .*'Many'"):
        analyze_experiments({"mine": config}, size=(64, 96))


def test_a_field_that_refers_to_none_is_named():
    config = model_zoo.get_config("digits/smca")
    del config.model.neck
    with pytest.raises(
        InputError, match=r"model of config mine fails .*'neck.embed_dim' not found"
    ):
        analyze_experiments({"mine": config}, size=(64, 96))


def test_a_fault_of_a_models_code_keeps_its_error_and_names_the_config():
    config = model_zoo.get_config("digits/smca")
    config.model.postprocessor = L(Faulty)()

    with pytest.raises(ZeroDivisionError) as error:
        analyze_experiments({"mine": config}, size=(64, 96))
    assert error.value.__notes__ == ["This is the model of config mine."]


class Faulty:
    def __init__(self):
        raise ZeroDivisionError


def test_tables_without_the_paper_have_no_accuracy():
    experiments = analyze_experiments({"mine": model_zoo.get_config("digits/detr")})

    assert len(tables(format_tables(experiments, markdown=True))) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("smca_r50", "no config named 'smca_r50' in the model zoo; did you mean smca_r50_50ep"),
        ("--config-file nowhere.py", "config file 'nowhere.py' does not exist"),
        ("digits/smca --latency --device gpu", "--device 'gpu' is unknown"),
        ("digits/smca --device cuda:99", "--device=cuda:99, but PyTorch sees"),
    ],
)
def test_bad_input_is_one_sentence(arguments, words, tool, capsys):
    assert tool.main(arguments.split()) == 1

    error = capsys.readouterr().err
    assert error.startswith("analyze_model.py: ")
    assert words in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        "",
        "digits/smca --input-size 800",
        "digits/smca --repeat 0",
        "a --num-classes 0",
        "a --input-size 0x9",
    ],
)
def test_bad_options_are_refused(arguments, tool, capsys):
    with pytest.raises(SystemExit) as stopped:
        tool.main(arguments.split())
    assert stopped.value.code == 2
    assert capsys.readouterr().err


def test_releases_have_a_table_of_their_own(tool, capsys):
    names = ["deformable_detr_r50_50ep", "deformable_detr_refine_r50_50ep", "detr_r50_50ep"]
    assert tool.main([*names, "--markdown", "--input-size", "64x64"]) == 0

    cost, paper, released = tables(capsys.readouterr().out)
    assert [row["paper: M"] for row in cost] == ["40", "–", "–"]
    assert [row["config"] for row in paper] == [names[0], names[2]]
    assert paper[0]["paper: AP"] == "43.8"
    assert released == [
        {
            "config": names[0],
            "release: AP": "44.5",
            "release: APS": "27.1",
            "release: APM": "47.6",
            "release: APL": "59.6",
        },
        {
            "config": names[1],
            "release: AP": "46.2",
            **{f"release: {key}": "–" for key in ("APS", "APM", "APL")},
        },
    ]


def test_every_release_is_of_an_experiment():
    assert set(RELEASED) <= set(model_zoo.list_configs())
    assert set(RELEASED) >= ONLY_RELEASED
