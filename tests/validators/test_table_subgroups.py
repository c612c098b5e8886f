"""Groups of patients: the one that is done badly is found, lost and small ones are counted, unfair models show."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from synthgen.errors import NotAssessable
from synthgen.evidence import gathered
from synthgen.io import read
from synthgen.rng import Seed
from synthgen.validators.groups import Groups
from synthgen.validators.table_subgroups import TableSubgroups


def patients(n, seed):
    """A rare ward whose patients are frailer; an outcome that hangs on a value, in both sexes alike."""
    rng = np.random.default_rng(seed)
    ward = rng.choice(["east", "west"], n, p=[0.8, 0.2])
    age = rng.normal(np.where(ward == "west", 75, 60), 8).round()
    value = rng.normal(0, 1, n)
    died = (rng.random(n) < 1 / (1 + np.exp(-(2 * value + 0.03 * (age - 60))))).astype(int)
    return pd.DataFrame(
        {"sex": rng.choice(["F", "M"], n), "ward": ward, "age": age, "value": value.round(3), "died": died}
    )


def evidence(synthetic, n=1200, roles=("ward", "age")):
    sides = []
    for seed in (1, 2):
        data = read(patients(n, seed), target="died")
        schema = data.schema
        columns = tuple(
            replace(c, roles=(*c.roles, "quasi_identifier")) if c.name in roles else c for c in schema.columns
        )
        sides.append(replace(data, schema=replace(schema, columns=columns)))
    return gathered(*sides, synthetic)


def measured(synthetic, **settings):
    return TableSubgroups(**settings).run(evidence(synthetic), seed=Seed(1))


def test_groups_come_from_roles_and_are_named_without_their_levels():
    names = [group.name for group in Groups.of(evidence(patients(1200, 3))).kept]
    assert names == [
        *("sex, group 1", "sex, group 2", "ward, group 1", "ward, group 2"),
        *("age, third 1", "age, third 2", "age, third 3", "died, group 1", "died, group 2"),
    ]


def test_a_fresh_draw_is_as_close_as_the_holdout_in_every_group():
    found = measured(patients(1200, 3))
    assert found.statistic.low <= found.control.high
    assert found.details["equalised-odds gap"].low <= found.details["equalised-odds gap (real)"].high
    for name in ("sex, group 1", "ward, group 2"):
        assert abs(found.details[f"AUC, {name}"].value - found.details[f"AUC, {name} (real)"].value) < 0.05


def test_the_group_that_is_done_badly_is_named():
    """The rare ward's values are shifted: an average over all patients hardly shows it."""
    made = patients(1200, 3)
    west = made["ward"] == "west"
    made.loc[west, "value"] += 1
    found = measured(made)
    assert "ward, group 2" in found.answer
    assert found.statistic.low > found.control.high
    assert found.details["ward, group 1"].value < found.control.high


def test_a_model_that_is_useless_for_one_sex_shows():
    made = patients(1200, 3)
    women = made["sex"] == "F"
    made.loc[women, "died"] = np.random.default_rng(4).permutation(made.loc[women, "died"])
    found = measured(made)
    female = "sex, group 1" if (patients(1200, 1)["sex"] == "F").mean() > 0.5 else "sex, group 2"
    assert found.details[f"AUC, {female}"].high < found.details[f"AUC, {female} (real)"].low


def test_lost_and_small_groups_are_counted():
    made = patients(1200, 3)
    found = measured(made[made["ward"] == "east"].reset_index(drop=True))
    assert found.details["groups that the synthetic table lacks"].value == 1
    assert found.details["largest difference of a group's share of the rows"].value > 0.01
    assert not any(name.startswith("ward, group 2") for name in found.details)


def test_without_groups_the_message_says_where_they_come_from():
    train, holdout, made = (patients(300, seed)[["value"]].assign(more=1.5) for seed in (1, 2, 3))
    with pytest.raises(NotAssessable, match="groups come from sex, age_years, the target"):
        TableSubgroups().run(gathered(read(train), read(holdout), made), seed=Seed(1))


def test_without_a_binary_target_usefulness_is_left_out_and_said():
    train, holdout, made = (patients(600, seed).drop(columns="died") for seed in (1, 2, 3))
    found = TableSubgroups().run(gathered(read(train), read(holdout), made), seed=Seed(1))
    assert any(note.startswith("usefulness by group: no column has the role target") for note in found.notes)
    assert "equalised-odds gap" not in found.details
