"""Does the synthetic table copy part of a train record: some columns, or all of them in other units?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pandas as pd

from synthgen.data import TableData
from synthgen.errors import NotAssessable
from synthgen.findings import Estimate, Measurement, exactly
from synthgen.privacy.agreement import agreements, most_agreeing
from synthgen.privacy.column_blocks import Block, column_blocks
from synthgen.privacy.copies import fewest_seen, half_of_holdout, landed, mirror_note
from synthgen.privacy.labels import LabelTest, label_test
from synthgen.privacy.neighbors import (
    Neighbors,
    Sets,
    content_order,
    placed,
    pooled_patients,
    searched_rows,
    shared_columns,
    space_of,
)
from synthgen.privacy.space import Points, Space
from synthgen.protocols import Evidence
from synthgen.rng import Seed

CUTOFFS = (0.05, 0.1, 0.2)  # a copied part agrees; who is merely nearest in few columns tells how well their law fits
DECIDING = CUTOFFS.index(0.1)
_PAIRS = 2e9  # of rows that the search in one block compares
_PLANTED = 200  # copies that `power` plants in each block


@dataclass(frozen=True)
class BlockCopies:
    """The pooled neighbour label test on parts of the records: do some columns copy train patients?

    Threat: somebody who knows a part of a patient's record, which nobody can tell beforehand (a laboratory sheet, what
    neighbours know, a table in other units), recognises it in a synthetic row whose other columns are invented. The
    test of `copies.neighbor` is made on

    - groups of associated columns, found on train and holdout pooled, without labels;
    - the quasi-identifiers that the schema declares, and sensitive columns together with them;
    - any part of the columns: rows are matched by the bits of their agreement on whichever columns agree, as in record
      linkage (Fellegi and Sunter 1969), and the ratio of distances is two to the minus half the bits by which the
      best patient is ahead of the second best;
    - all columns in own ranks: synthetic numbers ranked among the synthetic rows, real ones among all real rows. A
      table that was shifted or rescaled as a whole keeps its ranks. Where only some rows were shifted (5 %, say), or
      numbers were mirrored, ranks do not find them: a blind spot.

    Null: train and holdout patients are exchangeable given the synthetic table. Train and holdout are ranked, binned
    and grouped together, so this holds in each block; all blocks and cut-offs are tested together under the same
    permutations, patient by patient (max-T). Cut-offs are small: where bits of agreement add up, rows whose columns are
    drawn one by one from those of train land on train patients too often at large ones, and copy nobody. Where several
    patients are equal in a block, a row that equals them says nothing and is not counted as close. Blocks in which
    hardly any patient is alone are left out, with a note.

    The statistic is the share of synthetic rows that copy a train patient in the worst block, at the cut-off 0.1; its
    upper bound is the largest of all blocks, its lower bound the largest of bounds widened for choosing among them.
    Each block's share and p, adjusted for all, stand in the details. `power` is the smallest share of rows with a
    random half of their columns copied that would have been seen.

    >>> BlockCopies().question
    'Does the synthetic table copy parts of train records?'
    """

    name: ClassVar[str] = "copies.blocks"
    question: ClassVar[str] = "Does the synthetic table copy parts of train records?"
    needs: ClassVar[frozenset[str]] = frozenset({"train", "holdout", "synthetic"})

    alpha: float = 0.001  # level at which `power` says what would have been seen
    max_rows: int = 20_000  # synthetic rows searched for, fewer in a large pool; of more a random sample stands in

    def run(self, evidence: Evidence, *, seed: Seed) -> Measurement:
        """Search the pooled neighbours in every block and permute the labels.

        Raises:
            NotAssessable: no columns in common, no block to look at, fewer than 20 patients on a side, or a holdout so
                small that nothing would be seen.
        """
        blocks, coarse = column_blocks(evidence)
        if not blocks:
            raise NotAssessable("no block of columns is fine enough to tell patients apart")
        looked = _sampled(evidence, self.max_rows)
        rows = len(looked.synthetic)
        test = block_test(looked, blocks, seed=seed, alpha=self.alpha)
        fewest_seen(test, evidence, rows)
        shares = [test.leaked(_at(i), rows) for i in range(len(blocks))]
        worst = int(np.argmax([share.value for share in shares]))
        fewest = {b.name: k for b, k in zip(blocks, _fewest(looked, blocks, test), strict=True) if np.isfinite(k)}
        p_values = [_p(test, i) for i in range(len(blocks))]
        least = int(np.argmin([p.value for p in p_values]))
        named = zip(blocks, shares, strict=True)
        smallest = {f"smallest share seen, {name}": exactly(k / rows, n=rows) for name, k in fewest.items()}
        half = [fewest[block.name] for block in blocks if block.how == "agreement" and block.name in fewest]
        return Measurement(
            check=self.name,
            label="share of synthetic rows that copy a part of a train patient's record, in the worst block",
            statistic=_worst(test, len(blocks), rows),
            better="lower",
            answer=f"Of {len(blocks)} blocks the one with the largest share of copies is: {blocks[worst].name}; there "
            f"{shares[worst].value:.2%} of the synthetic rows copy a train patient beyond chance. The one that chance "
            f"explains least is: {blocks[least].name} (p = {p_values[least].value:.2g}).",
            control=_control(evidence, blocks, seed, rows),
            details={
                **{block.name: share for block, share in named},
                **{f"p, {block.name}": p for block, p in zip(blocks, p_values, strict=True)},
                **smallest,
                "mirror_p": exactly(test.p_fewer, n=test.permutations),
            },
            p_value=test.p_more,
            power=exactly(half[0] / rows, n=rows) if half else None,
            notes=(*_notes(coarse, rows, len(evidence.synthetic)), *mirror_note(test)),
            source="label permutation over pooled neighbours; max-T: Westfall & Young 1993; p-value: Phipson & Smyth "
            "2010, doi:10.2202/1544-6115.1585; agreement: Fellegi & Sunter 1969, doi:10.1080/01621459.1969.10501049",
        )


def block_test(evidence: Evidence, blocks: Sequence[Block], *, seed: Seed, alpha: float = 0.001) -> LabelTest:
    """The label test of all blocks and cut-offs together.

    Args:
        evidence: the tables; all their synthetic rows are searched for.
        blocks: from `column_blocks`, of these or of other synthetic rows.
        seed: of the permutations.
        alpha: the level that `critical` refers to.

    Returns:
        A test whose counts are those of the first block at all cut-offs, then those of the second, and so on.

    Raises:
        NotAssessable: fewer than 20 patients on a side.
    """
    evidence = _arranged(evidence)
    found = [_closest(block, *_placed(evidence, block)) for block in blocks]
    counts = np.concatenate([landed(one, CUTOFFS) for one in found], axis=1)
    return label_test(counts, found[0].is_train, found[0].patients, seed=seed, alpha=alpha)


def _sampled(evidence: Evidence, most: int) -> Evidence:
    """The same with a random sample of very many synthetic rows."""
    rows = searched_rows(evidence, pairs=_PAIRS, most=most)
    if len(rows) == len(evidence.synthetic):
        return evidence
    sets = placed(evidence)
    same = {"space": space_of(evidence), "placed": replace(sets, synthetic=sets.synthetic.take(rows))}
    return replace(evidence, synthetic=evidence.synthetic.take(rows), shared=same)


def _arranged(evidence: Evidence) -> Evidence:
    """The same with rows in the order of their contents: patients who are equal in one block differ in others."""

    def arrange() -> Evidence:
        sets = placed(evidence)
        trios = (
            (evidence.train, sets.train, sets.train_patients),
            (evidence.holdout, sets.holdout, evidence.holdout.patients),
            (evidence.synthetic, sets.synthetic, np.arange(len(sets.synthetic))),
        )
        orders = [content_order(points, patients) for _, points, patients in trios]
        train, holdout, synthetic = (data.take(order) for (data, _, _), order in zip(trios, orders, strict=True))
        points = [points.take(order) for (_, points, _), order in zip(trios, orders, strict=True)]
        same = {
            "space": space_of(evidence),
            "placed": Sets(points[0], points[1], points[2], *pooled_patients(train, holdout)),
        }
        arranged = replace(evidence, train=train, holdout=holdout, synthetic=synthetic, shared=same)
        arranged.shared["arranged"] = arranged
        return arranged

    return evidence.once("arranged", arrange)


def _placed(evidence: Evidence, block: Block) -> tuple[Sets, list[np.ndarray]]:
    """The three sets in a block, and the weights of agreement, which distances do not have."""
    if block.how == "agreement":
        return agreements(evidence, list(block.columns))
    if block.how == "ranks":
        return _own_ranks(evidence, list(block.columns)), []
    space, sets = space_of(evidence), placed(evidence)
    train, holdout, synthetic = (space.part(one, block.columns) for one in (sets.train, sets.holdout, sets.synthetic))
    return Sets(train, holdout, synthetic, sets.train_patients, sets.holdout_patients), []


def _own_ranks(evidence: Evidence, names: list[str]) -> Sets:
    """Synthetic numbers placed by their ranks among the synthetic rows, real ones among all real rows."""
    ordered = evidence.train.schema.ordered & set(names)

    def ranked(table: pd.DataFrame) -> pd.DataFrame:
        return table.assign(**{n: (table[n].rank() - 0.5) / max(1, table[n].notna().sum()) for n in ordered})

    real = [data.table[names] for data in (evidence.train, evidence.holdout)]
    both = ranked(pd.concat(real, ignore_index=True))
    space = Space.fit(both, ordered)
    points, train = space.encode(both), len(evidence.train)
    synthetic = space.encode(ranked(evidence.synthetic.table[names]))
    owners = pooled_patients(evidence.train, evidence.holdout)
    return Sets(points.take(slice(0, train)), points.take(slice(train, None)), synthetic, *owners)


def _closest(block: Block, sets: Sets, weights: list[np.ndarray], queries: Points | None = None) -> Neighbors:
    queries = sets.synthetic if queries is None else queries
    if block.how == "agreement":
        return most_agreeing(queries, sets, weights)
    found = sets.pool().search(queries)
    tied = found.second == 0  # equal to several patients, so conspicuously close to none
    first, second = np.where(tied, 1.0, found.first), np.where(tied, 1.0, found.second)
    return Neighbors(found.nearest, first, second, found.is_train, found.patients)


def _at(block: int) -> int:
    return block * len(CUTOFFS) + DECIDING


def _p(test: LabelTest, block: int) -> Estimate:
    """The p of a block: of its most conspicuous cut-off, adjusted for all blocks and cut-offs."""
    first = block * len(CUTOFFS)
    return exactly(float(test.p_each[first : first + len(CUTOFFS)].min()), n=test.permutations)


def _worst(test: LabelTest, blocks: int, rows: int) -> Estimate:
    """The largest share; bounds hold for the largest true share, whichever block that is."""
    shares = [test.leaked(_at(i), rows, among=blocks) for i in range(blocks)]
    value, low, high = (max(getattr(share, bound) for share in shares) for bound in ("value", "low", "high"))
    return Estimate(value, low, high, rows, f"label permutation by patient, worst of {blocks} blocks")


def _fewest(evidence: Evidence, blocks: Sequence[Block], test: LabelTest) -> list[float]:
    """How many copies of each block would be seen in it: random train rows are copied and searched for."""
    evidence = _arranged(evidence)
    rng = Seed(0).child("blocks", "planted").numpy()
    sources = rng.choice(len(evidence.train), min(_PLANTED, len(evidence.train)), replace=False)
    return [_fewest_in(evidence, block, i, test, sources) for i, block in enumerate(blocks)]


def _fewest_in(evidence: Evidence, block: Block, which: int, test: LabelTest, sources: np.ndarray) -> float:
    if block.how == "distance":
        sets, weights = _placed(evidence, block)
        queries = sets.train.take(sources)
    else:
        copied = evidence.train if block.how == "ranks" else _halves(evidence, sources)
        sets, weights = _placed(replace(evidence, synthetic=copied, shared={}), block)
        queries = sets.synthetic.take(sources) if block.how == "ranks" else sets.synthetic
    found = _closest(block, sets, weights, queries)
    right = found.patients[found.nearest] == sets.train_patients[sources]
    hits = np.array([float((right & (found.ratio <= t)).mean()) for t in CUTOFFS])
    counts = slice(which * len(CUTOFFS), (which + 1) * len(CUTOFFS))
    own = replace(test, total=test.total[counts], sd=test.sd[counts])
    return own.smallest_seen(len(evidence.synthetic), hits=hits)


def _halves(evidence: Evidence, sources: np.ndarray) -> TableData:
    """Random synthetic rows, each with a random half of its columns from a train row."""
    rng = Seed(0).child("blocks", "halves").numpy()
    names = shared_columns(evidence)
    hosts = evidence.synthetic.take(rng.choice(len(evidence.synthetic), len(sources)))
    given = evidence.train.table.iloc[sources].reset_index(drop=True)
    copied = rng.permuted(np.tile(np.arange(len(names)) < (len(names) + 1) // 2, (len(sources), 1)), axis=1)
    mixed = {n: hosts.table[n].where(~take, given[n]) for n, take in zip(names, copied.T, strict=True)}
    return TableData(hosts.table.assign(**mixed), hosts.schema)


def _control(evidence: Evidence, blocks: Sequence[Block], seed: Seed, rows: int) -> Estimate | None:
    """The same figure for half of the holdout patients in place of the synthetic rows, against all other real rows."""
    half = half_of_holdout(evidence, seed, most=rows)
    if half is None:
        return None
    holdout = evidence.holdout
    other = replace(evidence, holdout=holdout.take(~half), synthetic=holdout.take(half), shared={})
    test = block_test(other, blocks, seed=seed.child("control"))
    return _worst(test, len(blocks), len(other.synthetic))


def _notes(coarse: Sequence[Block], rows: int, everything: int) -> list[str]:
    sizes = ", ".join(str(len(block.columns)) for block in coarse)
    left = f"left out, since hardly any patient is alone in them: blocks of {sizes} columns"
    notes = [left] if coarse else []
    notes += [f"a random {rows:,} of the {everything:,} synthetic rows were searched"] if rows < everything else []
    return notes
