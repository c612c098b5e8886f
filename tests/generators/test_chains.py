"""Chains: what obeys comes back as it was, whatever is coded comes back in order, and held values hold."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthgen.consistency import orders
from synthgen.generators.chains import Chain, Held, Member
from synthgen.grids import Grid
from synthgen.rules import Order

NAMES = ("a", "b", "c", "d")
ORDERS = (
    (("a", "b"), ("b", "c"), ("c", "d")),
    (("a", "c"), ("b", "c"), ("b", "d")),
    (("a", "b", "d"), ("a", "c", "d")),
    (("a", "b"),),
    (),
)
FREE = (-math.inf, math.inf, -math.inf, math.inf)


def member(name: str, kind: object, has_missing: bool = True, bounds: tuple[float, ...] = FREE) -> Member:
    unit = kind if isinstance(kind, str) else None
    return Member(name, unit, 0 if unit else kind, *bounds, has_missing=has_missing)


def chain_of(rules: tuple[tuple[str, ...], ...], kinds: tuple[object, ...], anchor: int, bounds=FREE) -> Chain:
    before = orders(Order(names) for names in rules)
    depth = {name: len(before.get(name, ())) for name in NAMES}
    first = NAMES[anchor]
    below = [first, *sorted(before.get(first, ()), key=lambda name: -depth[name])]
    placed = below + sorted((name for name in NAMES if name not in below), key=lambda name: depth[name])
    earlier = tuple(tuple(placed.index(name) for name in before.get(later, ())) for later in placed)
    members = tuple(member(name, kinds[NAMES.index(name)], bounds=bounds) for name in placed)
    return Chain("start", members, len(below), earlier)


def in_order(chain: Chain, values: dict[str, np.ndarray]) -> np.ndarray:
    x = [values[m.name] for m in chain.members]
    fine = np.ones(len(x[0]), dtype=bool)
    for i, earlier in enumerate(chain.before):
        for j in earlier:
            fine &= ~(x[j] > x[i])
    return fine


CELLS = st.lists(st.tuples(*[st.one_of(st.none(), st.integers(-3_000, 3_000))] * 4), min_size=1, max_size=30)
NUMBER_KINDS = st.tuples(*[st.sampled_from([0, 1, 2, None])] * 4)
DATE_KINDS = st.tuples(*[st.sampled_from(["days", "hours", "minutes"])] * 4)


def table(chain: Chain, cells: list[tuple]) -> dict[str, np.ndarray]:
    """Cells as values on the grids; a day and a bit, or a hundredth and a bit, for each whole number."""
    raw = np.array([[math.nan if cell is None else cell for cell in row] for row in cells], dtype=float)
    found = {}
    for m in chain.members:
        unit = 0.0107 if m.date_unit is None else 86_400e6 / 7
        found[m.name] = m.grid.near(raw[:, NAMES.index(m.name)] * unit)
    return found


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.sampled_from(ORDERS), st.one_of(NUMBER_KINDS, DATE_KINDS), st.integers(0, 3), CELLS)
def test_rows_that_obey_come_back_and_all_others_come_back_in_order(rules, kinds, anchor, cells):
    chain = chain_of(rules, kinds, anchor)
    values = table(chain, cells)
    coded = chain.forward(values)
    back = chain.inverse(coded, {})
    obeys = in_order(chain, values)
    for name in NAMES:
        np.testing.assert_array_equal(np.isnan(back[name]), np.isnan(values[name]))
        np.testing.assert_allclose(back[name][obeys], values[name][obeys], rtol=1e-12, atol=1e-9)
    assert in_order(chain, back).all()


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    st.sampled_from(ORDERS), st.one_of(NUMBER_KINDS, DATE_KINDS), st.integers(0, 3), CELLS, CELLS, st.sets(
        st.sampled_from(NAMES), min_size=1
    )
)  # fmt: skip
def test_held_values_come_back_exactly_and_in_order(rules, kinds, anchor, cells, others, names):
    chain = chain_of(rules, kinds, anchor)
    rows = min(len(cells), len(others))
    wanted, coded = table(chain, cells[:rows]), chain.forward(table(chain, others[:rows]))
    held = {name: Held(np.ones(rows, dtype=bool), wanted[name]) for name in names}
    possible = ~chain.contradictions(held, rows)
    back = chain.inverse(coded, held)
    for name in names:
        np.testing.assert_array_equal(back[name], wanted[name])
    assert in_order(chain, back)[possible].all()
    clash = ~in_order(chain, {n: wanted[n] if n in names else np.full(rows, np.nan) for n in NAMES})
    np.testing.assert_array_equal(possible, ~clash)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.sampled_from(ORDERS), NUMBER_KINDS, st.integers(0, 3), CELLS)
def test_declared_bounds_hold_together_with_orders(rules, kinds, anchor, cells):
    chain = chain_of(rules, kinds, anchor, bounds=(-5.0, 5.0, -9.0, 9.0))
    back = chain.inverse(chain.forward(table(chain, cells)), {})
    assert in_order(chain, back).all()
    for name in NAMES:
        assert (np.isnan(back[name]) | (np.abs(back[name]) <= 5)).all()


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.sampled_from(ORDERS), st.one_of(NUMBER_KINDS, DATE_KINDS), st.integers(0, 3), CELLS)
def test_what_is_held_in_full_is_known_in_full(rules, kinds, anchor, cells):
    chain = chain_of(rules, kinds, anchor)
    values = table(chain, cells)
    rows = len(cells)
    known = chain.known({name: Held(np.ones(rows, dtype=bool), values[name]) for name in NAMES}, rows)
    some = ~np.isnan(np.stack(list(values.values()))).all(axis=0)
    for name, coded in chain.forward(values).items():
        assert known[name].rows[some].all()
        np.testing.assert_array_equal(known[name].values[some], coded[some])


def test_the_middle_of_a_chain_is_clipped_between_held_ends():
    chain = chain_of((("a", "b", "c"),), (0, 0, 0, 0), 0)
    nothing = np.zeros(2)
    coded = {"start": nothing, "a": nothing, "b": np.array([3.0, 99.0]), "c": nothing, "d": nothing}
    held = {name: Held(np.ones(2, dtype=bool), np.array([v, v])) for name, v in (("a", 10.0), ("c", 20.0))}
    assert chain.inverse(coded, held)["b"].tolist() == [13.0, 20.0]


def test_a_later_value_that_is_held_moves_the_row():
    chain = chain_of((("a", "b"),), (0, 0, 0, 0), 0)
    coded = {
        "start": np.zeros(2),
        "a": np.zeros(2),
        "b": np.array([3.0, 7.0]),
        "c": np.ones(2),
        "d": np.full(2, np.nan),
    }
    held = {"b": Held(np.array([True, False]), np.array([50.0, np.nan]))}
    back = chain.inverse(coded, held)
    assert (back["a"].tolist(), back["b"].tolist(), back["c"].tolist()) == ([47.0, 0.0], [50.0, 7.0], [48.0, 1.0])


def test_whole_days_stay_whole_beside_minutes():
    born, seen = member("a", "days"), member("b", "minutes")
    chain = Chain("start", (seen, born), 2, ((1,), ()))
    stamps = pd.Series(pd.to_datetime(["2020-03-01 00:00", "2020-03-01 17:31"]))
    values = {"b": seen.values(stamps), "a": born.values(stamps.dt.floor("D") - pd.to_timedelta([0, 400], "D"))}
    coded = chain.forward(values)
    assert coded["a"].tolist() == [0.0, 400.0]
    back = chain.inverse(coded, {})
    assert (born.series(back["a"]) == born.series(values["a"])).all()
    assert (seen.series(back["b"]) == stamps.to_numpy()).all()


def test_a_chain_survives_json():
    import json

    chain = chain_of(ORDERS[2], (0, 1, None, 2), 1)
    assert Chain.from_json(json.loads(json.dumps(chain.to_json(), allow_nan=False))).before == chain.before
    bounded = chain_of(ORDERS[2], (0, 1, None, 2), 1, bounds=(0.0, 1.0, 0.0, 1.0))
    assert Chain.from_json(json.loads(json.dumps(bounded.to_json(), allow_nan=False))) == bounded


@pytest.mark.parametrize("parts", [1, 10, 100, 1_000])
def test_grids_round_as_floats_compare(parts):
    grid, k = Grid(parts=parts), np.arange(-3_000, 3_000)
    values = k / parts
    np.testing.assert_array_equal(grid.up(values), values)
    np.testing.assert_array_equal(grid.down(values), values)
    np.testing.assert_array_equal(grid.near(values), np.round(values, int(math.log10(parts))))
    np.testing.assert_array_equal(grid.up(np.nextafter(values, np.inf)), (k + 1) / parts)
    np.testing.assert_array_equal(grid.down(np.nextafter(values, -np.inf)), (k - 1) / parts)
