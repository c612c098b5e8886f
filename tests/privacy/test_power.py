"""Power: what the check says would be seen the copy test sees, and fewer copies it does not see."""

import numpy as np
import pytest
from privacy_cases import categories, evidence, population, table, visits, with_copies

from synthgen.errors import NotAssessable
from synthgen.privacy import copies
from synthgen.privacy.copies import NeighborCopies
from synthgen.privacy.labels import label_test, signed_deviance
from synthgen.privacy.neighbors import neighbors
from synthgen.privacy.power import Power, _below, _Growing, first_seen
from synthgen.rng import Seed
from synthgen.testing import check_check


def sides(seed=0, train=600, holdout=300, synthetic=400):
    return (population(n, 10 * seed + i) for i, n in enumerate((train, holdout, synthetic)))


def test_what_it_says_would_be_seen_is_seen():
    """Three more copies than it names are always seen by the copy test itself, half as many never."""
    train, holdout, synthetic = sides()
    found = Power().run(evidence(train, holdout, synthetic), seed=Seed(1))
    fewest = round(found.statistic.value * len(synthetic))
    assert 17 <= fewest <= 20  # the size rule: ln(.001) / ln(2/3) = 17.04
    seen = {fewest + 3: 0, fewest // 2: 0}
    for number in seen:
        for draw in range(5):
            rows = np.random.default_rng(draw).permutation(600)[:number]
            planted = with_copies(synthetic, train.take(rows))
            test = NeighborCopies().run(evidence(train, holdout, planted), seed=Seed(draw))
            seen[number] += test.p_value <= 0.001
    assert seen == {fewest + 3: 5, fewest // 2: 0}


def test_exchanging_rows_gives_the_statistic_of_the_whole_test():
    """Row by row as counted from scratch, also where patients have several rows and change more than once."""
    train, holdout, synthetic = visits(120, 1), visits(60, 2), visits(80, 3)
    found = neighbors(evidence(train, holdout, synthetic))
    growing = _Growing.of(found, _below(found))
    rng = np.random.default_rng(0)
    removed = rng.choice(len(found.first), 40, replace=False)
    people, below = rng.integers(0, 6, 40), (rng.random((40, 7)) < 0.5).astype(float)
    scores = growing.scores((found.patients[found.nearest[removed]], _below(found)[removed]), (people, below))
    for step in (0, 3, 39):
        counts = np.zeros((len(found.is_train), 7))
        kept = np.setdiff1d(np.arange(len(found.first)), removed[: step + 1])
        np.add.at(counts, found.nearest[kept], _below(found)[kept])
        first_row = np.searchsorted(found.patients[: found.is_train.sum()], people[: step + 1])
        np.add.at(counts, first_row, below[: step + 1])
        test = label_test(counts, found.is_train, found.patients, seed=Seed(0))
        expected = signed_deviance(test.excess, test.sd, test.total, test.train_share).max()
        assert scores[step] == pytest.approx(expected)


def test_a_number_is_seen_only_if_all_larger_ones_are():
    found = np.array([[1, 1, 1], [0, 1, 0], [1, 0, 1], [0, 0, 0]], dtype=bool)
    np.testing.assert_array_equal(first_seen(found), [1, np.inf, 3, np.inf])


def test_a_larger_holdout_sees_smaller_leaks_and_a_finer_table_noisier_ones():
    train, _, synthetic = sides(synthetic=600)
    shares = [
        Power(draws=40).run(evidence(train, population(n, 7), synthetic), seed=Seed(1)).statistic.value
        for n in (100, 300, 900)
    ]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] > 2 * shares[2]
    found = Power(draws=40).run(evidence(train, population(300, 7), synthetic), seed=Seed(1))
    assert found.details["smallest share seen, noisy"].value > found.details["smallest share seen, exact"].value
    curve = [share for _, share in found.curves["exact"]]
    assert curve == sorted(curve)
    assert (curve[0], curve[-1]) == (0.0, 1.0)


def test_rows_in_another_order_change_nothing():
    train, holdout, synthetic = sides(synthetic=300)
    rng = np.random.default_rng(1)
    mixed = [one.take(rng.permutation(len(one))) for one in (train, holdout, synthetic)]
    one, other = (Power(draws=20).run(evidence(*sets), seed=Seed(1)) for sets in ((train, holdout, synthetic), mixed))
    assert (one.statistic, one.details, one.curves) == (other.statistic, other.details, other.curves)


def test_where_nothing_can_be_seen_it_says_how_many_patients_are_needed():
    """Of 600 and 20 patients a share of .97 is train: not even 200 copies in 400 rows of ties are seen."""
    train, holdout, made = (categories(n, i, columns=2, levels=2) for i, n in enumerate((600, 20, 400)))
    with pytest.raises(NotAssessable, match="the holdout has 20 patients; with 43 half"):
        Power(draws=10).run(evidence(train, holdout, made), seed=Seed(1))


def test_the_untouched_table_is_left_alone():
    train, holdout, synthetic = sides(synthetic=300)
    whole = evidence(train, holdout, synthetic)
    before = copies.tested([neighbors(whole)], Seed(0), 0.001).p_more
    Power(draws=5).run(whole, seed=Seed(1))
    assert copies.tested([neighbors(whole)], Seed(0), 0.001).p_more == before
    assert table(synthetic.table, synthetic.schema).fingerprint() == synthetic.fingerprint()


def test_battery():
    check_check(Power(draws=10))
