"""Who stands out is attacked apart: a copied subgroup is found and named by its column; clean tables stay quiet."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
from privacy_cases import SCHEMA, categories, evidence, population, table, visits, with_copies

from synthgen.data import TableData
from synthgen.errors import NotAssessable
from synthgen.findings import to_json
from synthgen.privacy import vulnerable
from synthgen.privacy.neighbors import placed
from synthgen.privacy.space import squared_distances, stacked
from synthgen.privacy.strata import exposure, strata
from synthgen.privacy.vulnerable import VulnerableMembership
from synthgen.rng import Seed
from synthgen.testing import check_check


@pytest.fixture(autouse=True)
def few_permutations(monkeypatch):
    monkeypatch.setattr("synthgen.privacy.labels._MOST", 2000)
    monkeypatch.setattr("synthgen.privacy.vulnerable._MOST", 2000)


def measured(train, holdout, synthetic, seed=0, **settings):
    return VulnerableMembership(**settings).run(evidence(train, holdout, synthetic), seed=Seed(seed))


def with_rare_ward(data, seed, share=0.02):
    """A ward of its own for a random share of the patients."""
    frame = data.table.copy()
    frame.loc[np.random.default_rng(seed).random(len(frame)) < share, "ward"] = "Zebra"
    return table(frame, data.schema)


def sets_of(seed, *sizes):
    return [with_rare_ward(population(n, 10 * seed + i), 10 * seed + i) for i, n in enumerate(sizes)]


def copying(train, fresh, count):
    """A fresh draw that copies some patients of the rare ward."""
    rows = np.flatnonzero((train.table["ward"] == "Zebra").to_numpy())
    return with_copies(fresh, train.take(rows[:count]))


@pytest.mark.parametrize("seed", range(5))
def test_a_copied_subgroup_is_found_and_named(seed):
    """Twenty copies, 1 % of the rows, of the 40 train patients of a ward of 2 %: found at 1 % in 30 of 30 seeds."""
    train, holdout, fresh = sets_of(seed, 2000, 1000, 2000)
    found = measured(train, holdout, copying(train, fresh, 20), seed)
    assert found.p_value < 0.01
    assert "a rare level of column 'ward'" in found.answer
    assert found.details["copied_in_worst_group"].low > 0
    assert found.details["copied_in_worst_group"].value == pytest.approx(20 / 2000, rel=0.5)


def test_all_of_a_subgroup_copied_shows_in_the_area():
    train, holdout, fresh = sets_of(7, 2000, 1000, 2000)
    found = measured(train, holdout, copying(train, fresh, 60))
    assert found.statistic.low > 0.6
    assert found.statistic == found.details["auc.patients with a rare level of column 'ward'"]
    assert found.control.low < 0.5 < found.control.high


def test_copies_of_isolated_patients_are_found():
    train, holdout, fresh = sets_of(8, 1500, 1000, 1500)
    ev = evidence(train, holdout, fresh)
    isolation = exposure(placed(ev), k=5, most=10_000, seed=Seed(0)).isolation[:1500]
    found = measured(train, holdout, with_copies(fresh, train.take(np.argsort(-isolation)[:30])))
    assert found.p_value < 0.01
    assert "most isolated patients" in found.answer


CLEAN = ("plain", "holdout a quarter of train", "holdout four times train", "ties", "visits")


def clean(kind, seed):
    if kind == "ties":
        return [categories(n, 10 * seed + i, columns=6, levels=7) for i, n in enumerate((600, 400, 600))]
    if kind == "visits":
        return [visits(n, 10 * seed + i) for i, n in enumerate((300, 250, 150))]
    sizes = {"holdout a quarter of train": (1200, 300), "holdout four times train": (300, 1200)}
    return sets_of(seed, *sizes.get(kind, (700, 700)), 600)


def test_fresh_draws_raise_few_alarms():
    """Law: 40 clean audits at level 5 %: at most 6 alarms (exceeded in 0.3 % of seeds)."""
    p_values = [measured(*clean(kind, seed), seed).p_value for kind in CLEAN for seed in range(8)]
    assert sum(p < 0.05 for p in p_values) <= 6


def test_areas_of_fresh_draws_are_covered():
    """Law: the lower bound, made for the largest of all strata, exceeds one half in at most 3 of 30 (2.5 % each)."""
    above = [measured(*sets_of(100 + seed, 600, 600, 500), seed).statistic.low > 0.5 for seed in range(30)]
    assert sum(above) <= 3


def test_isolation_and_scores_by_their_definition():
    """The k-th nearest row of other patients, whatever the own rows; the largest of a patient's rows."""
    train, holdout, synthetic = visits(60, 1), visits(50, 2), visits(40, 3)
    sets = placed(evidence(train, holdout, synthetic))
    found = exposure(sets, k=3, most=1000, seed=Seed(0))
    points, owners = stacked(sets.train, sets.holdout), np.r_[sets.train_patients, sets.holdout_patients]
    distances = squared_distances(points, points)
    distances[owners[:, None] == owners[None, :]] = np.inf
    third = pd.Series(np.sqrt(np.sort(distances, axis=1)[:, 2]))
    assert found.isolation == pytest.approx(third.groupby(owners).max().to_numpy())
    close = pd.Series(-np.sqrt(squared_distances(points, sets.synthetic).min(axis=1)))
    assert found.scores[:, 0] == pytest.approx(close.groupby(owners).max().to_numpy())
    assert found.is_train.tolist() == [True] * 60 + [False] * 50


def test_strata_are_patients_and_blind_to_labels():
    """A patient with the level on one of several visits has it; exchanging train and holdout exchanges nothing else."""
    train, holdout, synthetic = visits(200, 1), visits(200, 2), visits(100, 3)
    frame = train.table.copy()
    first = frame.groupby("patient", sort=False).head(1).index[:15]
    frame.loc[first, "ward"] = "Zebra"
    ev = evidence(table(frame, train.schema), holdout, synthetic)
    swapped = evidence(holdout, table(frame, train.schema), synthetic)
    sizes = []
    for one in (ev, swapped):
        exposed = exposure(placed(one), k=5, most=1000, seed=Seed(0))
        found = strata(one, placed(one), exposed, shares=(0.01, 0.05), rare=15 / 400, smallest=10)
        sizes.append({stratum.name: int(stratum.patients.sum()) for stratum in found})
    assert sizes[0] == sizes[1]
    assert sizes[0]["patients with a rare level of column 'ward'"] == 15
    assert sizes[0]["the 5 % most isolated patients"] == 20


def test_small_levels_are_one_group_and_ties_make_no_large_one():
    data = categories(400, 1, columns=2, levels=3)
    frame = data.table.copy()
    frame.loc[:19, "c0"] = [f"only {i}" for i in range(20)]
    everyone = table(frame, data.schema)
    ev = evidence(everyone.take(np.arange(0, 400, 2)), everyone.take(np.arange(1, 400, 2)), data)
    exposed = exposure(placed(ev), k=5, most=1000, seed=Seed(0))
    found = strata(ev, placed(ev), exposed, shares=(0.05,), rare=0.05, smallest=10)
    assert found[0].patients.sum() <= 30
    assert [one.name for one in found[1:]] == ["patients with one of the rarest levels of column 'c0'"]
    assert found[1].patients.sum() == 20


def test_no_level_leaves():
    train, holdout, fresh = sets_of(3, 600, 600, 600)
    assert "Zebra" not in json.dumps(to_json(measured(train, holdout, copying(train, fresh, 20))))


def test_order_and_units_change_nothing():
    train, holdout, synthetic = sets_of(10, 400, 400, 300)
    rng, names = np.random.default_rng(1), list(SCHEMA.names)[::-1]
    shuffled = []
    for data in (train, holdout, synthetic):
        frame = data.table[names].iloc[rng.permutation(len(data))].reset_index(drop=True)
        frame["age"] *= 4
        shuffled.append(TableData(frame, dataclasses.replace(SCHEMA, columns=tuple(SCHEMA[n] for n in names))))
    before, after = measured(train, holdout, synthetic), measured(*shuffled)
    assert (after.p_value, after.statistic, after.details) == (before.p_value, before.statistic, before.details)


def test_large_pools_are_sampled():
    train, holdout, synthetic = sets_of(4, 500, 500, 300)
    found = exposure(placed(evidence(train, holdout, synthetic)), k=5, most=300, seed=Seed(0))
    assert found.attacked.sum() == 300
    assert np.isneginf(found.isolation[~found.attacked]).all()
    measurement = measured(train, holdout, synthetic, max_patients=600)
    assert any("600 of the 1,000" in note for note in measurement.notes)


def test_many_strata_are_bounded():
    train, holdout, synthetic = (categories(n, n, columns=20, levels=7) for n in (500, 501, 502))
    found = measured(train, holdout, synthetic, most_strata=6)
    assert any("left out" in note for note in found.notes)
    assert len([name for name in found.details if name.startswith("auc.")]) <= 8
    assert "Of 6 groups" in found.answer


def test_groups_too_small_say_how_many_patients_they_need():
    sets = population(150, 1), population(110, 2), population(100, 3)
    with pytest.raises(NotAssessable, match="200 patients on each side"):
        measured(*sets, rare=0.0)
    found = measured(*sets_of(5, 500, 500, 300), isolated=(0.001, 0.05))
    assert [note for note in found.notes if "0.1 %" in note and "holdout patients would be needed" in note]


def test_bad_evidence_is_refused():
    with pytest.raises(NotAssessable, match=r"holdout has 99 patients.*at least 100"):
        measured(population(200, 1), population(99, 2), population(200, 3))
    with pytest.raises(NotAssessable, match="5 are needed"):
        measured(population(200, 1), population(150, 2), population(4, 3))


def test_rank_sums_have_their_closed_form():
    """One stratum of all patients, one attack: the permutation's z is Wilcoxon's."""
    from scipy.stats import rankdata

    rng = np.random.default_rng(0)
    scores, train = rng.normal(size=50), np.arange(50) < 30
    exposed = vulnerable.Exposure(train, np.ones(50, bool), np.ones(50), scores[:, None])
    found = vulnerable._rank_test(exposed, [vulnerable.Stratum("all", np.ones(50, bool))], Seed(0))
    u = rankdata(scores)[train].sum() - 30 * 51 / 2
    assert found.z[0, 0] == pytest.approx(u / np.sqrt(30 * 20 * 51 / 12))


def test_the_contract_of_checks():
    check_check(VulnerableMembership())
