"""How much does a training really leak, whatever it claims? A lower bound of epsilon, from canaries and one training.

Canaries are made-up patients, each put into the training or left out by a fair coin. From what the training gave away,
an attacker guesses for some of them which it was. Under differential privacy nobody can guess much better than the
coin; so many right guesses refute small values of epsilon. A claim below the bound is wrong.

Threat model: the attacker knows the canaries and sees what the score is made of, the synthetic table or the model.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy.stats import binom

from synthgen.data import TableData
from synthgen.errors import NotAssessable, UsageError
from synthgen.privacy.neighbors import nearest
from synthgen.privacy.space import Space
from synthgen.rng import Seed
from synthgen.schema import NUMERIC

_MOST = 50.0  # epsilon: larger bounds are given as this
_FEWEST = 10  # canaries: even if all were guessed, fewer could hardly refute anything

# Trains on a table, and says of each canary, the higher the likelier that it was in: train, canaries, seed -> scores
Attack = Callable[[TableData, TableData, Seed], np.ndarray]


@dataclass(frozen=True)
class CanaryAudit:
    """What the canaries showed."""

    epsilon_low: float  # with the confidence below, no smaller epsilon is true; 0 where nothing was shown
    correct: int  # of the guesses
    guesses: int
    canaries: int
    delta: float  # for which the bound holds
    confidence: float

    def refutes(self, epsilon: float) -> bool:
        """Whether a claim of this epsilon, at the same delta, is wrong.

        >>> CanaryAudit(1.4, correct=49, guesses=50, canaries=100, delta=1e-5, confidence=0.95).refutes(1.0)
        True
        """
        return self.epsilon_low > epsilon


def canary_audit(
    train: TableData,
    canaries: TableData,
    attack: Attack,
    *,
    delta: float,
    seed: int | Seed,
    guesses: int | None = None,
    confidence: float = 0.95,
) -> CanaryAudit:
    """Train once on train and a random half of the canaries, attack, and count right guesses.

    Half of the guesses say "in", of the highest scores, and half "out", of the lowest; on the rest nothing is said. The
    null is a mechanism that keeps to (epsilon, delta); the interval is one-sided and exact.

    Args:
        train: real patients; none of them is guessed about.
        canaries: one row each, with patients that are not in train (see `made_up`).
        attack: trains, and scores the canaries.
        delta: of the claim that is tested.
        seed: of the coins, and of the attack.
        guesses: how many, decided beforehand; None: half as many as canaries.
        confidence: of the bound.

    Raises:
        NotAssessable: fewer than 10 canaries.
        UsageError: more guesses than canaries.

    Source: Steinke, Nasr and Jagielski 2023 (arXiv:2305.08846), algorithm 1 and theorem 5.2.
    """
    seed, count = Seed.of(seed), len(canaries)
    if count < _FEWEST:
        raise NotAssessable(f"{count} canaries can refute nothing: make at least {_FEWEST}, better some hundred")
    guesses = count // 2 if guesses is None else guesses
    if not 1 <= guesses <= count:
        raise UsageError(f"of {count} canaries 1 to {count} can be guessed about, not {guesses}")
    included = seed.child("coins").numpy().random(count) < 0.5
    table = pd.concat([train.table, canaries.table[included]], ignore_index=True)
    scores = np.asarray(attack(replace(train, table=table), canaries, seed.child("attack")), dtype=float)
    order = np.lexsort((seed.child("ties").numpy().random(count), scores))
    lowest, highest = order[: guesses // 2], order[count - (guesses - guesses // 2) :]
    correct = int((~included[lowest]).sum() + included[highest].sum())
    bound = epsilon_bound(correct, guesses, count, delta=delta, confidence=confidence)
    return CanaryAudit(bound, correct, guesses, count, delta, confidence)


def epsilon_bound(correct: int, guesses: int, canaries: int, *, delta: float, confidence: float = 0.95) -> float:
    """The smallest epsilon that so many right guesses do not refute.

    >>> round(epsilon_bound(100, 100, 100, delta=0.0), 2)  # all right: about the logarithm of a third of them
    3.49
    >>> epsilon_bound(52, 100, 100, delta=0.0)
    0.0
    """
    refuted = 1 - confidence
    if p_value(correct, guesses, canaries, epsilon=0.0, delta=delta) > refuted:
        return 0.0
    low, high = 0.0, _MOST
    while high - low > 1e-4:
        middle = (low + high) / 2
        if p_value(correct, guesses, canaries, epsilon=middle, delta=delta) <= refuted:
            low = middle
        else:
            high = middle
    return low


def p_value(correct: int, guesses: int, canaries: int, *, epsilon: float, delta: float) -> float:
    """An upper bound of the probability of so many right guesses, if (epsilon, delta) holds.

    Right guesses are at most as many as coins that fall right with probability e^epsilon / (1 + e^epsilon), but for a
    part of delta for each canary, spent where it helps the attacker most.

    >>> p_value(10, 10, 10, epsilon=0.0, delta=0.0) == 0.5**10
    True
    """
    right = 1 / (1 + math.exp(-epsilon))
    at_least = binom.sf(np.arange(-1, correct), guesses, right)  # of 0, 1 .. correct right ones
    tail = float(at_least[correct])
    gained = (at_least[correct - np.arange(1, correct + 1)] - tail) / np.arange(1, correct + 1)
    return min(1.0, tail + 2 * canaries * delta * float(gained.max(initial=0.0)))


def made_up(train: TableData, count: int, *, seed: int | Seed) -> TableData:
    """Canaries: rows whose cells come from different patients each, so that they are unlike anybody; patients are new.

    >>> from synthgen.schema import Column, TableSchema
    >>> schema = TableSchema((Column("id", "identifier", roles=("patient",)), Column("x", "integer")))
    >>> data = TableData(pd.DataFrame({"id": ["a", "b"], "x": [1.0, 2.0]}), schema)
    >>> made_up(data, 3, seed=1).table["id"].tolist()
    ['canary 0', 'canary 1', 'canary 2']
    """
    columns, seed = {}, Seed.of(seed)
    for column in train.schema.columns:
        values = train.table[column.name]
        if column.learned:
            rows = seed.child(column.name).numpy().integers(len(values), size=count)
            columns[column.name] = values.iloc[rows].reset_index(drop=True)
        elif column.kind in NUMERIC:
            columns[column.name] = pd.Series(np.arange(count) + float(np.nanmax([*values, 0.0])) + 1)
        elif column.kind == "datetime":
            columns[column.name] = pd.Series(pd.NaT, index=range(count), dtype=values.dtype)
        else:
            columns[column.name] = pd.Series([f"canary {i}" for i in range(count)], dtype=object)
    return TableData(pd.DataFrame(columns, columns=list(train.schema.names)), train.schema, train.backend)


def by_synthetic(refit: Callable[[TableData, Seed], TableData]) -> Attack:
    """An attack for who has the synthetic table alone: a canary that lies close to a synthetic row was in.

    Args:
        refit: trains on a table and samples.
    """

    def attack(train: TableData, canaries: TableData, seed: Seed) -> np.ndarray:
        synthetic = refit(train, seed)
        names = [c.name for c in train.schema.learned if c.name in synthetic.table]
        seen = pd.concat(
            [synthetic.table[names], canaries.table[names]], ignore_index=True
        )  # train would give away more
        space = Space.fit(seen, train.schema.ordered)
        _, distances = nearest(space.encode(canaries.table[names]), space.encode(synthetic.table[names]), 1)
        return -distances[:, 0]

    return attack
