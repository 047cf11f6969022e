import pytest
from convergence import command
from convergence.cost import estimate
from convergence.plan import PARTS, SWEEP, Run, planned, sweep_runs
from convergence.rates import missing_factors
from convergence.training import experiment
from convergence.variants import VARIANTS

EVERYTHING = [name for name in PARTS if name != "gpu"]


def _sweep(make_record, variant, aps):
    """Finished runs of a sweep, AP by factor."""
    runs = [Run(part=SWEEP, variant=variant, seed=100, factor=factor) for factor in aps]
    return {
        run.name: make_record(SWEEP, variant, 100, aps=[aps[run.factor]], factor=run.factor)
        for run in runs
    }


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ({}, ([0.5, 1.0, 2.0], None)),
        ({0.5: 1.0, 2.0: 3.0}, ([1.0], None)),
        ({0.5: 1.0, 1.0: 3.0, 2.0: 2.0}, ([], 1.0)),
        ({0.5: 1.0, 1.0: 2.0, 2.0: 3.0}, ([4.0], None)),
        ({0.5: 1.0, 1.0: 2.0, 2.0: 3.0, 4.0: 0.0}, ([], 2.0)),
        ({0.5: 3.0, 1.0: 2.0, 2.0: 1.0}, ([0.25], None)),
        ({0.5: 2.0, 1.0: 3.0, 2.0: 3.0}, ([], 1.0)),
        ({1 / 16: 5.0, 0.125: 4.0, 0.25: 3.0, 0.5: 2.0, 1.0: 1.0, 2.0: 0.0}, ([], 1 / 16)),
    ],
)
def test_sweep_goes_on_until_its_best_is_inside(found, expected):
    assert missing_factors(found) == expected


def test_first_seed_of_all_comes_before_the_second():
    runs = list(planned(EVERYTHING, (), ()))
    names = [run.name for run in runs]
    assert len(names) == len(set(names)) == 18 + 9 + 3 + 8 + 18 + 2 + 3
    first = [run.variant for run in runs[:6]]
    assert set(first) == set(PARTS["main"].variants)
    assert names.index("table2-fixed-seed0") < names.index("main-detr-seed1")
    assert names.index("long_detr-detr-seed0") < names.index("main-detr-seed1")


def test_parts_variants_and_seeds_can_be_chosen():
    names = [run.name for run in planned(["main", "table2"], ["detr", "fixed"], [1])]
    assert names == ["main-detr-seed1", "table2-fixed-seed1"]


def test_run_waits_for_the_sweep_that_its_rate_is_from(make_record):
    todo = list(command.to_do({}, ["table2"], ["fixed"], [0]))
    assert [run.name for run, _ in todo] == [
        "sweep-smca_single_scale-x0.5-seed100",
        "sweep-smca_single_scale-x1-seed100",
        "sweep-smca_single_scale-x2-seed100",
        "table2-fixed-seed0",
    ]
    assert [bool(waits_for) for _, waits_for in todo] == [False, False, False, True]
    results = _sweep(make_record, "smca_single_scale", {0.5: 3.0, 1.0: 2.0, 2.0: 1.0, 0.25: 1.0})
    ((run, waits_for),) = command.to_do(results, ["table2"], ["fixed"], [0])
    assert (run.name, run.factor, waits_for) == ("table2-fixed-seed0", 0.5, "")


def test_finished_runs_are_not_done_again(make_record):
    results = _sweep(make_record, "detr", {0.5: 1.0, 1.0: 2.0, 2.0: 1.0})
    results["main-detr-seed0"] = make_record("main", "detr", 0, aps=[1.0])
    todo = [run.name for run, _ in command.to_do(results, ["main"], ["detr"], [])]
    assert todo == ["main-detr-seed1", "main-detr-seed2"]


def test_variant_without_an_experiment_is_left_out_with_a_sentence(monkeypatch):
    monkeypatch.setattr(command.model_zoo, "list_configs", lambda: ["digits/detr"])
    text = command.overview({}, ["main"], [], [])
    assert "SMCA plus is left out: this checkout has no experiment digits/smca_plus." in text
    assert {run.variant for run, _ in command.to_do({}, ["main"], [], [])} == {"detr"}


def test_cost_is_that_of_finished_runs_of_the_same_setting(make_record):
    results = {"a": make_record("main", "detr", 0, aps=[1.0], steps=100, seconds=50.0)}
    # 1000 steps at half a second each, and ten times that.
    assert estimate([Run(part="main", variant="detr", seed=1)], results) == 500.0
    assert estimate([Run(part="long_detr", variant="detr", seed=0)], results) == 5000.0
    # Another setting's are not.
    assert estimate([Run(part="table3", variant="3intra", seed=0)], results) == 1000 * 0.9


def test_sweeps_use_the_held_out_images_and_others_do_not():
    swept = Run(part=SWEEP, variant="smca", seed=100, factor=2.0)
    assert "dataloader.test.dataset.names=digits_heldout_train" in swept.overrides()
    other = Run(part="main", variant="smca", seed=0, factor=2.0)
    assert "dataloader.test.dataset.names=digits_val" in other.overrides()
    assert (swept.steps, other.steps) == (500, 1000)


def test_rate_factor_is_on_all_rates(tmp_path):
    configs = [
        experiment(Run(part="main", variant="detr", seed=0, factor=factor), output_dir=tmp_path)
        for factor in (1.0, 0.5)
    ]
    plain, halved = ((cfg.optimizer.lr, cfg.optimizer.params.backbone_lr) for cfg in configs)
    assert halved == (plain[0] / 2, plain[1] / 2)


def test_all_start_from_the_backbone_but_those_from_scratch(tmp_path):
    path = tmp_path / "backbone.pth"
    for run in planned(EVERYTHING, (), (0,)):
        cfg = experiment(
            run, output_dir=tmp_path, backbone=path if VARIANTS[run.variant].pretrained else None
        )
        from_scratch = run.variant in ("scratch", "scratch_class_weight_10")
        assert cfg.train.init_checkpoint == ("" if from_scratch else str(path))


@pytest.mark.parametrize("part", [*EVERYTHING, "gpu"])
def test_every_run_has_fields_that_its_experiment_has(part, tmp_path):
    for variant in PARTS[part].variants:
        cfg = experiment(Run(part=part, variant=variant, seed=7), output_dir=tmp_path)
        assert cfg.train.seed == 7
        last = dict(override.split("=", 1) for override in VARIANTS[variant].overrides)
        for key, value in last.items():
            node = cfg
            for name in key.split("."):
                node = node[name]
            assert str(node) == value or float(node) == float(value), key


def test_what_is_left_of_a_sweep_and_its_outcome(make_record):
    results = _sweep(make_record, "smca", {0.5: 1.0, 1.0: 2.0, 2.0: 3.0})
    runs, chosen = sweep_runs("smca", results)
    assert ([run.factor for run in runs], chosen) == ([4.0], None)
    results |= _sweep(make_record, "smca", {4.0: 1.0})
    assert sweep_runs("smca", results) == ([], 2.0)
    # Another variant's runs are not counted.
    assert len(sweep_runs("detr", results)[0]) == 3


@pytest.mark.parametrize(
    "run",
    [next(planned([part], (), ())) for part in PARTS if part != SWEEP],
    ids=lambda run: run.name,
)
def test_images_are_tested_at_their_own_size_and_evaluated_where_numbers_are_written(run, tmp_path):
    side = {"small": 128, "scales": 256, "large": 384}[PARTS[run.part].setting]

    cfg = experiment(run, output_dir=tmp_path, device="cpu", backbone=None)

    (resize,) = cfg.dataloader.test.mapper.mapper.augmentations
    assert resize.short_edge_length == resize.max_size == side
    assert cfg.train.evaluation.period % cfg.train.log_period == 0
