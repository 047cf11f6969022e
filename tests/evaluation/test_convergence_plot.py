import json

import numpy as np
import pytest
from PIL import Image

from smca.evaluation import CurvePoint, plot_convergence, read_curves
from smca.evaluation.convergence_plot import draw_curves


def write_lines(path, records, tail=""):
    path.write_text("".join(json.dumps(r) + "\n" for r in records) + tail)
    return path


def line(iteration, ap, **more):
    return {"iteration": iteration, "bbox/AP": ap, "epoch": (iteration + 1) / 10, **more}


def test_points_and_other_lines(tmp_path):
    file = write_lines(
        tmp_path / "metrics.json",
        [
            {"iteration": 3, "total_loss": 1.5},
            line(9, 12.5, **{"bbox/AP50": 30.0}),
            line(19, 20.25),
        ],
    )
    assert read_curves(file) == {
        "bbox/AP": [CurvePoint(9, 1.0, 12.5), CurvePoint(19, 2.0, 20.25)],
        "bbox/AP50": [CurvePoint(9, 1.0, 30.0)],
        "bbox/AP75": [],
    }


def test_a_resume_replaces_what_came_after_it(tmp_path):
    """Killed after 39, resumed from 20, killed again before 39 was reached a second time."""
    records = [line(9, 1.0), line(19, 2.0), line(29, 3.0), line(39, 4.0), line(29, 30.0)]
    points = read_curves(write_lines(tmp_path / "metrics.json", records))["bbox/AP"]
    assert [(p.iteration, p.value) for p in points] == [(9, 1.0), (19, 2.0), (29, 30.0)]


def test_lines_that_a_kill_cut_off(tmp_path):
    cut = '{"bbox/AP": 7.0, "iter'
    file = write_lines(tmp_path / "metrics.json", [line(9, 1.0)], tail=cut)
    assert [p.value for p in read_curves(file)["bbox/AP"]] == [1.0]
    # A resumed training goes on behind the cut, on the same line.
    glued = cut + json.dumps(line(19, 2.0)) + "\n" + json.dumps(line(29, 3.0)) + "\n"
    file = write_lines(tmp_path / "metrics.json", [line(9, 1.0)], tail=glued)
    assert [p.value for p in read_curves(file)["bbox/AP"]] == [1.0, 3.0]


def test_nan_is_no_point(tmp_path):
    file = write_lines(tmp_path / "metrics.json", [line(9, float("nan")), line(19, 2.0)])
    assert [p.iteration for p in read_curves(file)["bbox/AP"]] == [19]


def test_epochs_of_files_that_do_not_name_them(tmp_path):
    file = write_lines(tmp_path / "metrics.json", [{"iteration": 9, "bbox/AP": 5.0}, line(19, 6.0)])
    assert [p.epoch for p in read_curves(file)["bbox/AP"]] == [None, 2.0]
    assert [p.epoch for p in read_curves(file, iters_per_epoch=4)["bbox/AP"]] == [2.5, 2.0]


def test_what_cannot_be_read_or_drawn(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing\.json does not exist"):
        read_curves(tmp_path / "nothing.json")
    other = tmp_path / "log.txt"
    other.write_text("epoch 1\n[1, 2]\n")
    with pytest.raises(ValueError, match=r"log\.txt is no metrics\.json: none of its 2 lines"):
        read_curves(other)
    early = write_lines(tmp_path / "metrics.json", [{"iteration": 3, "total_loss": 1.5}])
    with pytest.raises(ValueError, match="no evaluation result yet"):
        plot_convergence(early, tmp_path / "plot.png")
    assert not (tmp_path / "plot.png").exists()


def test_plot_is_drawn_and_redrawn(tmp_path):
    plot = tmp_path / "plot.png"
    file = write_lines(tmp_path / "metrics.json", [line(9, 12.5)])
    plot_convergence(file, plot, title="Digits")
    one = np.asarray(Image.open(plot).convert("RGB"))
    assert one.std() > 5
    write_lines(file, [line(9, 12.5), line(19, 40.0), line(29, 35.0)])
    plot_convergence(file, plot, title="Digits")
    three = np.asarray(Image.open(plot).convert("RGB"))
    assert one.shape == three.shape
    assert (one != three).any()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["metrics.json", "plot.png"]


@pytest.mark.parametrize(
    ("epochs", "label", "positions"),
    [((0.5, 1.0, 1.5), "epoch", [0.5, 1.0, 1.5]), ((0.5, None, 1.5), "iteration", [5, 10, 15])],
)
def test_what_is_on_the_axes(tmp_path, monkeypatch, epochs, label, positions):
    import matplotlib.figure

    figures = []
    initialise = matplotlib.figure.Figure.__init__
    monkeypatch.setattr(
        matplotlib.figure.Figure,
        "__init__",
        lambda self, *args, **kwargs: (figures.append(self), initialise(self, *args, **kwargs))[1],
    )
    values = (10.0, 43.7, 41.0)
    points = [
        CurvePoint(5 * i + 4, e, v) for i, (e, v) in enumerate(zip(epochs, values, strict=True))
    ]
    draw_curves({"bbox/AP": points, "bbox/AP50": [], "bbox/AP75": points[:1]}, tmp_path / "p.png")
    (axes,) = figures[0].axes
    assert axes.get_xlabel() == label
    assert "%" in axes.get_ylabel()
    curve = axes.lines[0]
    assert list(curve.get_xdata()) == positions
    assert tuple(curve.get_ydata()) == values
    assert [t.get_text() for t in axes.get_legend().get_texts()] == ["AP", "AP75"]
    assert [t.get_text() for t in axes.texts] == [f"best 43.7 ({label} {positions[1]:.4g})"]
    low, high = axes.get_ylim()
    assert low == 0
    assert high > 43.7


def test_a_training_still_at_zero_can_be_drawn(tmp_path):
    draw_curves({"bbox/AP": [CurvePoint(9, 1.0, 0.0)]}, tmp_path / "p.png")
    assert (tmp_path / "p.png").stat().st_size > 1000
