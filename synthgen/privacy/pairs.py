"""Which synthetic rows lie suspiciously close to which patients? For the data controller alone, never for a report."""

from __future__ import annotations

import numpy as np
import pandas as pd

from synthgen.privacy.copies import CUTOFFS, DECIDING
from synthgen.privacy.neighbors import Neighbors, neighbors, searched_rows
from synthgen.protocols import Evidence


def suspicious_pairs(evidence: Evidence) -> pd.DataFrame:
    """Synthetic rows, or images, that are conspicuously closer to one train patient than to all others, closest first.

    Rows are numbered from 0 in the order of the files. About as many clean rows come as close to holdout patients by
    chance as `copies.neighbor` (or `images.copies`) says, so a pair is a reason to look and no proof.

    Columns:
        synthetic_row, train_row, ratio: distance to that train row over distance to the nearest other patient, at most
        0.5.

    >>> from synthgen.evidence import gathered
    >>> from synthgen.testing import invented_cohort
    >>> train, holdout = invented_cohort(200, seed=1).split_by_patient(seed=1)
    >>> copied = train.take(np.array([7, 3]))
    >>> suspicious_pairs(gathered(train, holdout, copied)).to_dict("records")
    [{'synthetic_row': 0, 'train_row': 7, 'ratio': 0.0}, {'synthetic_row': 1, 'train_row': 3, 'ratio': 0.0}]
    """
    rows, found = _searched(evidence)
    close = np.flatnonzero((found.ratio <= CUTOFFS[DECIDING]) & found.is_train[found.nearest])
    order = close[np.argsort(found.ratio[close], kind="stable")]
    pairs = {"synthetic_row": rows[order], "train_row": found.nearest[order], "ratio": found.ratio[order].round(4)}
    return pd.DataFrame(pairs)


def _searched(evidence: Evidence) -> tuple[np.ndarray, Neighbors]:
    """The numbers of the searched rows or images, and their nearest patients."""
    if evidence.images is None:
        return searched_rows(evidence), neighbors(evidence)
    from synthgen.privacy.image_copies import conspicuous

    return conspicuous(evidence)
