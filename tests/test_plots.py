"""Do the figures for notebooks show what was measured? By what lies on their axes."""

import dataclasses

import pytest
from example_audit import example_audit
from matplotlib.figure import Figure

from synthgen.errors import UsageError
from synthgen.generators.training_plot import plot_training
from synthgen.report.public import public

TRAINING = {
    "history": [[10, 2.0, 2.2], [20, 1.0, 1.1], [30, 0.8, 1.1]],
    "best_step": 20,
    "first_ratio": 1.1,
    "memorisation_gap": 0.05,
}


def test_a_training_is_drawn_as_it_went():
    figure = plot_training(TRAINING)
    assert isinstance(figure, Figure)
    above, below = figure.axes
    lines = {line.get_label(): line for line in above.lines}
    assert lines["train"].get_xydata().tolist() == [[10, 2.0], [20, 1.0], [30, 0.8]]
    assert lines["validation"].get_xydata().tolist() == [[10, 2.2], [20, 1.1], [30, 1.1]]
    assert lines["kept weights"].get_xdata() == [20, 20]
    gap, limit, _ = below.lines
    assert gap.get_ydata() == pytest.approx([0.0, 0.0, 0.25])
    assert limit.get_ydata() == [0.05, 0.05]
    assert figure._repr_png_().startswith(b"\x89PNG")
    with pytest.raises(UsageError, match="nothing to plot"):
        plot_training({"history": []})


def test_a_limit_far_away_does_not_flatten_the_gap():
    figure = plot_training({**TRAINING, "memorisation_gap": 1e9})
    assert figure.axes[1].get_ylim()[1] < 1


@pytest.mark.parametrize("name", ["fidelity.columns", "columns"])
def test_an_audits_columns_are_drawn_as_the_report_rounds_them(name):
    audit = example_audit()
    measurement = public(audit)["fidelity.columns"].measurement
    figure = audit.plot(name).figure
    assert isinstance(figure, Figure)
    real, ours = figure.axes[0].lines
    expected = {key: e.value for key, e in measurement.details.items() if key in {c["name"] for c in audit.columns}}
    assert sorted(ours.get_xdata()) == sorted(expected.values())
    assert len(real.get_xdata()) <= len(ours.get_xdata())
    assert figure._repr_png_().startswith(b"\x89PNG")


def test_a_curve_is_drawn_as_the_check_gave_it():
    audit = example_audit()
    curves = public(audit)["membership"].measurement.curves
    axes = audit.plot("membership").figure.axes[0]
    drawn = [line.get_xydata().tolist() for line in axes.lines]
    for curve in curves.values():
        assert [[max(x, 1e-3), max(y, 1e-3)] for x, y in curve] in drawn
    assert axes.get_xscale() == "log"
    assert audit.plot("membership").figure.get_label() == "Who was in the training data? The attacker's hits"


def test_unknown_pictures_are_refused_with_those_there_are():
    there = r"this audit has .*membership, .*fidelity\.columns, fidelity\.pairs"
    with pytest.raises(UsageError, match=rf"no picture 'colums': did you mean 'columns'\? {there}"):
        example_audit().plot("colums")
    empty = dataclasses.replace(example_audit(), findings=(), generator=None)
    with pytest.raises(UsageError, match="no picture 'columns': this audit has none"):
        empty.plot("columns")
