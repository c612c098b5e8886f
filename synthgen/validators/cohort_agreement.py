"""Does a synthetic image show what its record says? As well as a real one, to a network that learned from real ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from synthgen.data import TableData
from synthgen.errors import NotAssessable
from synthgen.findings import Measurement
from synthgen.image_views import views
from synthgen.protocols import Evidence
from synthgen.rng import Seed
from synthgen.validators.image_classes import FEWEST, classes_of, target_of
from synthgen.validators.image_networks import normalised, scores, trained
from synthgen.validators.image_sets import IMAGES, images_of, some_rows
from synthgen.validators.resampling import around, bootstrap_figures, one_thread
from synthgen.validators.scoring import multiclass_metrics


@dataclass(frozen=True)
class CohortAgreement:
    """A small network learns the finding of the record from real images, and reads holdout and synthetic ones.

    A cohort whose images belong to other records comes out at an AUC of one half, however good each part is alone.

    >>> CohortAgreement(steps=50).steps
    50
    """

    name: ClassVar[str] = "cohort.agreement"
    question: ClassVar[str] = "Does a synthetic image show the finding of its record as well as a real one?"
    needs: ClassVar[frozenset[str]] = IMAGES | {"target"}
    images: int = 5_000  # of each set, at most
    steps: int = 500
    repeats: int = 200

    @one_thread
    def run(self, evidence: Evidence, *, seed: Seed) -> Measurement:
        """Train on train, test on the other two, and bootstrap the difference by their patients.

        Raises:
            NotAssessable: no target with classes, or fewer than two that have ten images in each set.
        """
        images_of(evidence)
        name, tables = target_of(evidence), (evidence.train, evidence.holdout, evidence.synthetic)
        classes = classes_of(name, tables, tables, fewest=FEWEST)
        if classes.count < 2:
            raise NotAssessable(
                f"the finding {name!r} has {classes.count} class(es) of {FEWEST} images in each set: two are needed"
            )
        seen = [normalised(one, views(evidence).train) for one in views(evidence).sets]
        rows = []
        for side, (codes, data) in enumerate(zip(classes.codes, tables, strict=True)):
            own = np.flatnonzero(codes >= 0)
            rows.append(own[some_rows(data.patients[own], self.images, seed.child("rows", str(side)))])
        labels = [codes[own] for codes, own in zip(classes.codes, rows, strict=True)]
        real, *others = (one[torch.from_numpy(own)] for one, own in zip(seen, rows, strict=True))
        network = trained(real, labels[0], classes=classes.count, steps=self.steps, seed=seed.child("network"))
        holdout, made = (data.take(own) for data, own in zip(tables[1:], rows[1:], strict=True))
        metrics = [
            multiclass_metrics(label, scores(network, one)) for label, one in zip(labels[1:], others, strict=True)
        ]
        halves = _halves(holdout, seed.child("halves"))

        def figures(on_holdout: np.ndarray, on_made: np.ndarray) -> np.ndarray:
            auc = metrics[0]["auc"]
            return np.array(
                [
                    auc(on_holdout),
                    metrics[1]["auc"](on_made),
                    metrics[1]["auc"](on_made) - auc(on_holdout),
                    auc(on_holdout * halves) - auc(on_holdout * ~halves),
                ]
            )

        value, draws = bootstrap_figures(figures, [holdout, made], seed=seed.child("bootstrap"), repeats=self.repeats)
        found = [
            around(float(value[i]), draws[:, i], n=n, least=least)
            for i, (n, least) in enumerate(
                [(len(holdout), 0.0), (len(made), 0.0), (len(made), -1.0), (len(holdout), -1.0)]
            )
        ]
        return Measurement(
            check=self.name,
            label="AUC on synthetic images and their records, minus that on real ones",
            statistic=found[2],
            control=found[3],
            better="higher",
            answer=f"A network that learned from real images reads the record's finding with AUC {value[1]:.3f} from "
            f"synthetic images, and with {value[0]:.3f} from real ones of the holdout.",
            details={"AUC": found[1], "AUC (real)": found[0]},
            notes=(
                f"finding {name!r}, {classes.count} classes; trained on {len(real):,} images of train for {self.steps} "
                f"steps, tested on {len(holdout):,} and {len(made):,}",
                "AUC of each class against the rest, averaged; the control is one half of the holdout minus the other",
                "above 0 synthetic images are plainer than real ones",
            ),
            source="Esteban et al. 2017, arXiv:1706.02633: train on real, test on synthetic",
        )


def _halves(data: TableData, seed: Seed) -> np.ndarray:
    """One half of the patients. Shape: -> (rows,) boolean."""
    order = seed.numpy().permutation(data.patient_count)
    return np.asarray((order < data.patient_count / 2)[data.patients])
