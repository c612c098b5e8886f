"""Coverage of tables: the value that two samples of one law have, lost groups, noise, ties, and too few rows."""

import numpy as np
import pandas as pd
import pytest

from synthgen.errors import NotAssessable
from synthgen.evidence import gathered
from synthgen.io import read
from synthgen.rng import Seed
from synthgen.validators.coverage import Coverage


def patients(n, seed):
    """Three wards of patients with two correlated values, of which one is at times missing."""
    rng = np.random.default_rng(seed)
    ward = rng.choice(["a", "b", "c"], n, p=[0.5, 0.3, 0.2])
    age = rng.normal(60, 10, n)
    value = 0.1 * age + rng.normal(0, 1, n) + np.where(ward == "c", 5, 0)
    value[rng.random(n) < 0.05] = np.nan
    return pd.DataFrame({"ward": ward, "age": age.round(1), "value": value.round(2)})


def measured(synthetic, n=600, **settings):
    train, holdout = (read(patients(n, seed)) for seed in (1, 2))
    return Coverage(**settings).run(gathered(train, holdout, synthetic), seed=Seed(1))


def test_a_fresh_draw_covers_as_train_does():
    found = measured(patients(600, 3))
    chance = 1 - np.prod([(600 - i) / (1200 - i) for i in range(1, 6)])
    assert abs(found.statistic.value - chance) < 0.03
    assert abs(found.control.value - chance) < 0.03
    assert found.details["density"].low <= 1 <= found.details["density"].high
    assert abs(found.details["recall"].value - found.details["recall (train)"].value) < 0.05


def test_a_lost_ward_is_not_covered():
    whole = patients(1500, 3)
    found = measured(whole[whole["ward"] != "c"].reset_index(drop=True))
    assert found.statistic.high < found.control.low
    assert found.details["precision"].value > 0.8  # what there is lies among real rows


def test_typical_patients_alone_lie_too_near_the_centre():
    many = patients(3000, 3)
    found = measured(many[(many["age"] - 60).abs() < 6].reset_index(drop=True)).details
    for name in ("alpha-precision", "beta-recall"):
        assert found[name].high < 0.7 < 0.9 < found[f"{name} (train)"].low
    assert found["precision"].value > 0.9, "each of them lies among real ones"


def test_independent_columns_lie_outside():
    mixed = patients(600, 3)
    mixed["value"] = np.random.default_rng(4).permutation(mixed["value"])
    found = measured(mixed)
    assert found.details["density"].high < found.details["density (train)"].low
    assert found.statistic.value < found.control.value


def test_equal_rows_are_at_distance_zero():
    """On a table with few distinct rows every row has equal fellows: all is covered."""
    coarse = [pd.DataFrame({"sex": np.tile(["F", "M"], 100), "age": np.tile([40, 40, 60, 60], 50)}) for _ in range(3)]
    found = Coverage().run(gathered(*(read(frame) for frame in coarse[:2]), coarse[2]), seed=Seed(1))
    assert found.statistic.value == found.control.value == 1


def test_order_of_rows_and_units_change_nothing():
    made = patients(600, 3)
    frames = [patients(600, seed) for seed in (1, 2)]
    first = Coverage().run(gathered(*(read(frame) for frame in frames), made), seed=Seed(1))
    scaled = [frame.assign(age=frame["age"] * 12) for frame in (*frames, made[::-1].reset_index(drop=True))]
    again = Coverage().run(gathered(*(read(frame) for frame in scaled[:2]), scaled[2]), seed=Seed(1))
    assert again.statistic.value == pytest.approx(first.statistic.value)


def test_few_rows_are_refused():
    with pytest.raises(NotAssessable, match="5 neighbors need more than 5 rows"):
        measured(patients(5, 3))
