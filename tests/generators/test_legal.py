"""Masks: exactly what some completion allows, by counting all of them, and errors where nothing is left."""

import itertools

import numpy as np
import pandas as pd
import pytest

from synthgen.data import TableData
from synthgen.errors import DataError
from synthgen.generators.codec import TableCodec
from synthgen.generators.legal import Legal
from synthgen.generators.tokens import LevelColumn, NumberColumn
from synthgen.rng import Seed
from synthgen.rules import Combination, Implies
from synthgen.schema import Column, TableSchema

NAMES = ("a", "b", "c", "d", "e")
SIZES = (2, 3, 3, 2, 4)


def level_column(name: str, size: int) -> LevelColumn:
    cells = np.array([*[str(level) for level in range(size)], None] * 8, dtype=object)
    return LevelColumn.fit(name, cells, np.arange(len(cells)), k=5)


COLUMNS = {name: level_column(name, size) for name, size in zip(NAMES, SIZES, strict=True)}


def random_rules(rng: np.random.Generator) -> tuple[list, dict]:
    """One to five rules on levels, and the combinations that each combination rule has seen, as tokens."""
    rules, seen = [], {}
    for _ in range(rng.integers(1, 6)):
        names = [NAMES[i] for i in rng.permutation(5)[: rng.integers(2, 4)]]
        if rng.random() < 0.4:
            rule = Combination(tuple(names))
            every = [np.flatnonzero(COLUMNS[name].emittable) for name in names]
            combinations = np.array(list(itertools.product(*every)))
            seen[rule] = combinations[rng.random(len(combinations)) < 0.5]
        else:
            sets = {n: tuple(rng.permutation([None, "0", "1", "2"])[: rng.integers(1, 4)]) for n in names}
            rule = Implies({names[0]: sets[names[0]]}, {name: sets[name] for name in names[1:]})
        rules.append(rule)
    return rules, seen


def legal_rows(rules: list, seen: dict) -> np.ndarray:
    """Every row of tokens that keeps all rules, one by one."""
    every = itertools.product(*(np.flatnonzero(COLUMNS[name].emittable) for name in NAMES))
    rows = np.array(list(every))
    table = pd.DataFrame(
        {n: np.array([None, None, *COLUMNS[n].levels], dtype=object)[rows[:, i]] for i, n in enumerate(NAMES)}
    )
    kept = np.ones(len(rows), dtype=bool)
    for rule in rules:
        if isinstance(rule, Combination):
            places = [NAMES.index(name) for name in rule.columns]
            allowed = {tuple(tokens) for tokens in seen[rule].tolist()}
            kept &= np.array([tuple(row) in allowed for row in rows[:, places].tolist()])
        else:
            kept &= ~rule.violations(table)
    return rows[kept]


@pytest.mark.parametrize("number", range(60))
def test_exactly_what_some_completion_allows(number):
    rng = Seed(number).numpy()
    rules, seen = random_rules(rng)
    rows = legal_rows(rules, seen)
    if not len(rows):
        with pytest.raises(DataError, match="no learned levels of"):
            Legal.of(rules, COLUMNS, seen)
        return
    legal = Legal.of(rules, COLUMNS, seen)
    known = np.where(rng.random((40, 5)) < 0.5, rows[rng.integers(0, len(rows), 40)], -1)
    for place, name in enumerate(NAMES):
        found = legal.allowed(name, {n: known[:, i] for i, n in enumerate(NAMES)})
        if found is None:
            assert not any(name in rule.columns for rule in rules)
            continue
        for row, tokens in enumerate(known):
            others = [i for i in range(5) if tokens[i] >= 0 and i != place]
            agreeing = rows[(rows[:, others] == tokens[others]).all(axis=1)]
            assert set(np.flatnonzero(found[row])) == set(agreeing[:, place])
    anything = np.stack([rng.integers(0, 2 + size, 40) for size in SIZES], axis=1)
    for component in legal.components:
        places = [NAMES.index(name) for name in component.names]
        broken = legal.impossible(component, {NAMES[i]: anything[:, i] for i in places}, 40)
        expected = [not (rows[:, places] == tokens[places]).all(axis=1).any() for tokens in anything]
        assert broken.tolist() == expected


def test_thirty_columns_that_hang_on_one_are_no_large_table():
    columns = {"hub": level_column("hub", 3)} | {f"leaf{i}": level_column(f"leaf{i}", 3) for i in range(30)}
    rules = [Implies({"hub": ("1",)}, {name: ("2",)}) for name in list(columns)[1:]]
    legal = Legal.of(rules, columns, {})
    assert len(legal.components) == 1
    assert max(len(table.rows) for table in legal.components[0].tables) <= 4
    found = legal.allowed("hub", {"leaf3": np.array([2, 4]), "hub": np.array([-1, -1])})
    assert found[:, 2:].tolist() == [[True, False, True], [True, True, True]]


def test_numbers_under_rules_have_a_token_per_value():
    table = pd.DataFrame({"dose": [0.0, 5.0, 10.0, 5.0] * 30, "drug": ["none", "a", "b", "b"] * 30})
    schema = TableSchema((Column("dose", "integer"), Column("drug", "categorical")), (Combination(("drug", "dose")),))
    codec = TableCodec.fit(TableData(table, schema), seed=Seed(1))
    found = codec.legal.allowed("dose", {"drug": np.array([2, 3, 4])})  # a, b, none
    assert found[:, 1:].tolist() == [[False, True, False], [False, True, True], [True, False, False]]


def test_only_combinations_of_enough_patients_are_learned():
    cells = [("x", "1")] * 30 + [("y", "2")] * 30 + [("x", "2")] * 4
    table = pd.DataFrame(cells, columns=["a", "b"], dtype=object)
    schema = TableSchema((Column("a", "categorical"), Column("b", "categorical")), (Combination(("a", "b")),))
    codec = TableCodec.fit(TableData(table, schema), seed=Seed(1))
    assert codec.seen[0].tolist() == [[2, 2], [3, 3]]


def test_missing_alone_can_be_told_apart_in_any_number():
    rng = Seed(3).numpy()
    psa = np.where(rng.random(400) < 0.5, np.nan, rng.lognormal(1, 1, 400))
    table = pd.DataFrame({"sex": np.where(np.isnan(psa), "F", "M").astype(object), "psa": psa})
    rule = Implies({"sex": ("F",)}, {"psa": (None,)})
    schema = TableSchema((Column("sex", "categorical"), Column("psa", "real")), (rule,))
    codec = TableCodec.fit(TableData(table, schema), seed=Seed(1))
    column = codec.columns[1]
    assert isinstance(column, NumberColumn)
    assert column.bins > 1
    assert codec.legal.allowed("psa", {"sex": np.array([2, 3])}).sum(axis=1).tolist() == [1, column.vocabulary[0]]
    wrong = TableSchema(schema.columns, (Combination(("sex", "psa")),))
    with pytest.raises(DataError, match=r"column 'psa': \d+ of \d+ values are too rare"):
        TableCodec.fit(TableData(table, wrong), seed=Seed(1))


def test_a_value_that_rules_speak_of_comes_out_of_no_bin():
    values = np.concatenate([np.zeros(30), np.arange(1, 400), np.full(3, 200.0)])
    kept_apart = {"apart": (0.0, 7.0, 8.0)}
    column = NumberColumn.fit("n", values, np.arange(len(values)), k=5, decimals=0, **kept_apart)
    assert column.bins > 1
    assert 0.0 in column.spikes
    tokens = np.repeat(np.arange(1 + len(column.spikes), column.vocabulary[0]), 2_000)[:, None]
    tokens = tokens if len(column.vocabulary) == 1 else np.pad(tokens, ((0, 0), (0, 1)), constant_values=1)
    drawn = column.decode(tokens, Seed(1).numpy())
    assert not np.isin(drawn, [0.0, 7.0, 8.0]).any()
    assert np.isin([6.0, 9.0], drawn).all()


def test_rules_that_what_was_learned_cannot_keep_are_an_error_that_names_no_level():
    table = pd.DataFrame({"a": ["SECRET"] * 40, "b": ["HIDDEN"] * 40}, dtype=object)
    schema = TableSchema(
        (Column("a", "categorical"), Column("b", "categorical")), (Implies({"a": ("SECRET",)}, {"b": ("UNSEEN",)}),)
    )
    with pytest.raises(DataError, match="no learned levels of a, b keep the rules") as caught:
        TableCodec.fit(TableData(table, schema), seed=Seed(1))
    assert not any(word in str(caught.value) for word in ("SECRET", "HIDDEN", "UNSEEN"))
