"""Does a network trained on synthetic images read real ones as well as one trained on real images?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from synthgen.data import TableData
from synthgen.errors import NotAssessable
from synthgen.findings import Estimate, Measurement
from synthgen.image_views import views
from synthgen.protocols import Evidence
from synthgen.rng import Seed
from synthgen.validators.image_classes import FEWEST, Classes, classes_of, target_of
from synthgen.validators.image_networks import PEAK, SmallNetwork, normalised, scores, trained
from synthgen.validators.image_sets import IMAGES, images_of, some_rows
from synthgen.validators.resampling import around, bootstrap_figures, one_thread
from synthgen.validators.scoring import Metric, multiclass_metrics

Labelled = tuple[Tensor, np.ndarray]  # images, and the number of their class
ALONE, MIXED, TUNED = "synthetic_alone", "real_and_synthetic", "synthetic_then_real"


@dataclass(frozen=True)
class ImageClassifier:
    """A small network that reads the target, trained in four ways and tested on the sealed holdout.

    On synthetic images; on as many real ones; on both; and on synthetic images first, on real ones then.

    >>> ImageClassifier(steps=50).steps
    50
    """

    name: ClassVar[str] = "utility.image_classifier"
    question: ClassVar[str] = "Does a network trained on synthetic images read real ones as well?"
    needs: ClassVar[frozenset[str]] = IMAGES | {"target"}
    images: int = 5_000  # at most so many to train on
    steps: int = 500  # of each training
    repeats: int = 200

    @one_thread
    def run(self, evidence: Evidence, *, seed: Seed) -> Measurement:
        """Train, test on the holdout, and bootstrap the differences by its patients.

        Raises:
            NotAssessable: no target with classes, or fewer than two that have ten images in train and in the holdout.
        """
        images_of(evidence)
        classes, notes = _problem(evidence)
        real, fake, again, test, tested = self._sets(evidence, classes, seed)
        networks = self._networks(real, fake, again, classes.count, seed.child("networks"))
        chances = {name: scores(network, test[0]) for name, network in networks.items()}
        metrics = {name: multiclass_metrics(test[1], found)["auc"] for name, found in chances.items()}
        found = self._estimates(metrics, tested, seed.child("bootstrap"))
        statistic, control = found.pop("difference"), found.pop("control")
        return Measurement(
            check=self.name,
            label="AUC on real patients of a network trained on synthetic images, minus that of real images",
            statistic=statistic,
            control=control,
            better="higher",
            answer=f"Trained on synthetic images a network reaches AUC {found[f'auc_synthetic.{ALONE}'].value:.3f} on "
            f"real patients; on real images {found[f'auc_real.{ALONE}'].value:.3f}; on both "
            f"{found[f'auc_synthetic.{MIXED}'].value:.3f}; on synthetic and then real ones "
            f"{found[f'auc_synthetic.{TUNED}'].value:.3f}.",
            details=found,
            notes=(
                f"target {classes.column!r}, {classes.count} classes; trained on {len(real[1]):,} images for "
                f"{self.steps} steps, tested on {len(test[1]):,} of the holdout",
                "AUC of each class against the rest, averaged; the control is trained on real patients drawn again "
                "with replacement",
                "copies of train images do as well as real ones here: see the copy checks",
                *notes,
            ),
            source="Esteban et al. 2017, arXiv:1706.02633",
        )

    def _sets(
        self, evidence: Evidence, classes: Classes, seed: Seed
    ) -> tuple[Labelled, Labelled, Labelled, Labelled, TableData]:
        """Real and synthetic images to train on, equally many; real ones drawn again; the test, and its records."""
        seen = [normalised(one, views(evidence).train) for one in views(evidence).sets]
        records = (evidence.train, evidence.holdout, evidence.synthetic)
        kept = [np.flatnonzero(codes >= 0) for codes in classes.codes]
        count = min(len(kept[0]), len(kept[2]), self.images)
        rows = [
            own[some_rows(data.patients[own], count, seed.child("rows", str(i)))] if i != 1 else own
            for i, (own, data) in enumerate(zip(kept, records, strict=True))
        ]
        rows.append(_drawn_again(evidence.train.patients, rows[0], seed.child("rows", "again")))
        sets = [
            (seen[i][torch.from_numpy(own)], classes.codes[i][own]) for i, own in zip((0, 1, 2, 0), rows, strict=True)
        ]
        return sets[0], sets[2], sets[3], sets[1], evidence.holdout.take(rows[1])

    def _networks(
        self, real: Labelled, fake: Labelled, again: Labelled, classes: int, seed: Seed
    ) -> Mapping[str, SmallNetwork]:
        """All start from the same weights and see the same number of images; the last one sees twice as many."""

        def fit(data: Labelled, start: SmallNetwork | None = None) -> SmallNetwork:
            peak = PEAK if start is None else PEAK / 2
            return trained(*data, classes=classes, steps=self.steps, seed=seed, start=start, peak=peak)

        alone = fit(fake)
        both = torch.cat([real[0], fake[0]]), np.concatenate([real[1], fake[1]])
        return {"real": fit(real), ALONE: alone, MIXED: fit(both), TUNED: fit(real, alone), "again": fit(again)}

    def _estimates(self, metrics: Mapping[str, Metric], tested: TableData, seed: Seed) -> dict[str, Estimate]:
        """The AUC of each network, each beside that of real images, and their paired differences."""
        made = (ALONE, MIXED, TUNED)

        def figures(weights: np.ndarray) -> np.ndarray:
            level = {name: metric(weights) for name, metric in metrics.items()}
            gaps = [level[name] - level["real"] for name in (*made, "again")]
            return np.array([level["real"], *(level[name] for name in made), *gaps])

        value, draws = bootstrap_figures(figures, [tested], seed=seed, repeats=self.repeats)
        found = [
            around(float(value[i]), draws[:, i], n=len(tested), least=0.0 if i <= len(made) else -1.0)
            for i in range(len(value))
        ]
        real, levels, gaps = found[0], found[1 : 1 + len(made)], found[1 + len(made) :]
        details: dict[str, Estimate] = {}
        for name, level in zip(made, levels, strict=True):
            details |= {f"auc_synthetic.{name}": level, f"auc_real.{name}": real}
        details |= {
            "real and synthetic, minus real": gaps[1],
            "synthetic and then real, minus real": gaps[2],
        }
        return {"difference": gaps[0], "control": gaps[3], **details}


def _problem(evidence: Evidence) -> tuple[Classes, tuple[str, ...]]:
    """The classes that can be learned and tested, with notes on what is left out and what the synthetic images lack."""
    name = target_of(evidence)
    tables = (evidence.train, evidence.holdout, evidence.synthetic)
    found = classes_of(name, tables, tables[:2], fewest=FEWEST)
    if found.count < 2:
        raise NotAssessable(
            f"the target {name!r} has {found.count} class(es) of {FEWEST} images in train and in the holdout: two are "
            "needed"
        )
    made = np.bincount(found.codes[2][found.codes[2] >= 0], minlength=found.count)
    if made.sum() < 2 * FEWEST:
        raise NotAssessable(f"{made.sum()} synthetic images have a class of {name!r}; this check needs {2 * FEWEST}")
    notes = []
    if found.count < found.known:
        notes.append(
            f"{found.known - found.count} of {found.known} classes have fewer than {FEWEST} images in train or in the "
            "holdout: left out"
        )
    few = int((made < FEWEST).sum())
    if few:
        notes.append(
            f"{few} of {found.count} classes have fewer than {FEWEST} synthetic images: they are hardly learned"
        )
    return found, tuple(notes)


def _drawn_again(patients: np.ndarray, rows: np.ndarray, seed: Seed) -> np.ndarray:
    """As many rows of patients drawn with replacement. Shape: rows (n,) -> (n,), or a few more or less."""
    own, place = np.unique(patients[rows], return_inverse=True)
    times = np.bincount(seed.numpy().integers(len(own), size=len(own)), minlength=len(own))
    return np.repeat(rows, times[place])
