"""Cells of rows: as many of each, or as many as asked for, whatever generator draws them; and what that changed."""

import pytest
from conftest import invented_patients

import synthgen as sg
from synthgen.config import study_from_mapping
from synthgen.errors import ConfigError, UsageError
from synthgen.generators.rebalancing import balanced, before_and_after, counted
from synthgen.protocols import Run
from synthgen.rng import Seed
from synthgen.stages import rebalanced, sampled


@pytest.fixture(scope="module")
def train():
    return sg.read(invented_patients(600), target="died")


def study(**sample):
    return study_from_mapping({"data": {"table": "p.csv"}, "generator": {"name": "copula"}, "sample": sample})


def drawn(train, chosen):
    return sampled(sg.Copula().fit(train, seed=1), chosen, train, seed=Seed(2), run=Run())


def test_each_cell_gets_as_many_rows(train):
    chosen = study(balance=["sex", "died"], rows=402)
    made = drawn(train, chosen)
    assert sorted(made.table.groupby(["sex", "died"]).size()) == [100, 100, 101, 101]
    facts = rebalanced(chosen, train, made)["rebalanced"]
    smallest = train.table.groupby(["sex", "died"]).size().min() / 600
    assert facts["cells"] == 4
    assert facts["smallest cell"] == f"before {100 * smallest:.1f} % of 600 patients, after 24.9 % of 402"
    assert not any(level in str(facts.values()) for level in ("'F'", "'M'"))
    assert drawn(train, chosen).fingerprint() == made.fingerprint()


def test_explicit_counts_are_exact(train):
    cells = [{"sex": "F", "died": 1, "rows": 30}, {"sex": "M", "died": 0, "rows": 7}]
    made = drawn(train, study(cells=cells))
    assert made.table.groupby(["sex", "died"]).size().to_dict() == {("F", 1.0): 30, ("M", 0.0): 7}


def test_cells_that_few_patients_have_are_left_out(train):
    frame = invented_patients(600)
    frame.loc[:8, "sex"] = "rare"
    few = sg.read(frame, target="died")
    assert set(balanced(few, ["sex"], rows=10, seed=Seed(1))["sex"]) == {"F", "M"}
    assert before_and_after(few, few, ["sex"])["cells"] == 2


def test_what_is_no_cell_is_refused(train):
    with pytest.raises(UsageError, match="no levels"):
        balanced(train, ["glucose"], rows=10, seed=Seed(1))
    with pytest.raises(UsageError, match="no levels"):
        balanced(train, ["patient_id"], rows=10, seed=Seed(1))
    with pytest.raises(UsageError, match="more rows"):
        balanced(train, ["sex", "died"], rows=3, seed=Seed(1))
    for cells in ([{"sex": "F"}], [{"rows": 3}], [{"sex": "F", "rows": 0}], [{"sex": "F", "rows": 1}, {"rows": 1}]):
        with pytest.raises(UsageError, match="same columns"):
            counted(train, cells, seed=Seed(1))
    with pytest.raises(UsageError, match="twice"):
        counted(train, [{"died": 1, "rows": 2}, {"died": 1.0, "rows": 3}], seed=Seed(1))
    with pytest.raises(UsageError, match="fixed values"):
        drawn(train, study(cells=[{"sex": "X", "rows": 5}]))
    with pytest.raises(ConfigError, match="leave rows and balance out"):
        study(cells=[{"sex": "F", "rows": 5}], rows=3)


def test_shares_are_of_patients_and_not_of_rows():
    """Three visits of each woman, one of each man: half of the patients are women, three quarters of the rows."""
    sex = ["F"] * 20 + ["M"] * 20
    frame = invented_patients(40).assign(sex=sex, person=range(40))
    visits = sg.read(frame.loc[frame.index.repeat([3] * 20 + [1] * 20)].reset_index(drop=True), patient="person")
    facts = before_and_after(visits, visits, ["sex"])
    assert facts["smallest cell"] == facts["largest cell"] == "before 50.0 % of 40 patients, after 50.0 % of 40"
