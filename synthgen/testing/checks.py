"""Does a check keep its contract?"""

from __future__ import annotations

import dataclasses
import json
import math
import re

import numpy as np

from synthgen.data import TableData, assemble
from synthgen.findings import Estimate, Measurement, to_json
from synthgen.images import ArrayPixels, ImageData
from synthgen.protocols import Check, Evidence, Images
from synthgen.rng import Seed
from synthgen.schema import Regression
from synthgen.testing.invented import invented_cohort
from synthgen.testing.laws import law, levels, named_in, same_global_randomness, unique_texts

NEEDS = frozenset(
    {"train", "holdout", "synthetic", "images", "cohort", "refit", "target", "survival", "estimates", "rules"}
)


def check_check(check: Check, *, seed: int | Seed = 0) -> None:
    """Run the battery on a check: it measures an invented cohort of which the synthetic data are a fresh draw.

    A check that needs images measures a phantom cohort of radiographs; give it settings that make it quick.

    Raises:
        AssertionError: the first law that does not hold, in words.
    """
    root = Seed.of(seed).child("battery")
    law(isinstance(check, Check), "a check has name, question, needs and run")
    law(check.question.strip().endswith("?"), "a check's question ends with a question mark")
    law(frozenset(check.needs) <= NEEDS, "a check needs some of: " + ", ".join(sorted(NEEDS)))
    evidence = _evidence(check, root)
    before = _fingerprints(evidence)
    with same_global_randomness("run"):
        measurement = check.run(evidence, seed=root)
    law(_fingerprints(evidence) == before, "a check changes its evidence")
    _check_measurement(measurement, check)
    _check_texts(measurement, evidence)
    again = [check.run(evidence, seed=root), check.run(_evidence(check, root), seed=root)]
    law(all(_same(measurement, other) for other in again), "the same evidence and seed give another measurement")
    _check_order(check, measurement, evidence, root)


def _evidence(check: Check, root: Seed) -> Evidence:
    if "cohort" in check.needs:
        return _cohort_evidence(root)
    if "images" in check.needs:
        return _image_evidence(root)
    everyone = invented_cohort(1000, seed=root.child("real"))
    train, holdout = everyone.split_by_patient(holdout=0.5, seed=root.child("split"))
    schema = train.schema
    if "survival" in check.needs:
        schema = schema.assign("time", "bmi").assign("event", "died")
    if "estimates" in check.needs:
        schema = dataclasses.replace(schema, estimates=(Regression("died", ("age", "diagnosis", "admitted")),))
    return Evidence(
        train, holdout, _fresh_draw(len(train), root), schema, refit=lambda data, s: _fresh_draw(len(data), s)
    )


def _image_evidence(root: Seed) -> Evidence:
    from synthgen.phantom import phantom

    real, fresh = (
        _in_memory(phantom(n, seed=root.child(name), size=32)) for n, name in ((200, "real"), (110, "fresh"))
    )
    return _of_images(Images(*real.split_by_patient(holdout=0.5, seed=root), fresh))


def _cohort_evidence(root: Seed) -> Evidence:
    from synthgen.evidence import gathered_by
    from synthgen.phantom import phantom_cohort

    real, fresh = (phantom_cohort(n, seed=root.child(name), size=32) for n, name in ((200, "real"), (110, "fresh")))
    real, fresh = (dataclasses.replace(one, images=_in_memory(one.images)) for one in (real, fresh))
    return gathered_by(*real.split_by_patient(holdout=0.5, seed=root), fresh)["cohort"]


def _in_memory(images: ImageData) -> ImageData:
    """The phantom draws an image whenever it is read."""
    arrays = ArrayPixels([images.read(i) for i in range(len(images))])
    return dataclasses.replace(images, pixels=arrays, numbers=np.arange(len(images)))


def _of_images(images: Images) -> Evidence:
    """The tables of an audit of images are their records."""
    train, holdout, synthetic = (data.records for data in (images.train, images.holdout, images.synthetic))
    return Evidence(train, holdout, synthetic, train.schema, images=images)


def _fresh_draw(n: int, seed: Seed) -> TableData:
    """What a perfect generator would make: new patients of the same law."""
    new = invented_cohort(n, seed=seed.child("fresh"))
    columns = {column.name: new.table[column.name].to_numpy() for column in new.schema.learned}
    return assemble(columns, new.schema, n=n, seed=seed.child("fresh"), backend="pandas")


def _fingerprints(evidence: Evidence) -> list[str]:
    sets = (evidence.train, evidence.holdout, evidence.synthetic)
    if evidence.images is not None:
        return [
            data.fingerprint() for data in (evidence.images.train, evidence.images.holdout, evidence.images.synthetic)
        ]
    return [data.fingerprint() for data in sets]


def _check_measurement(measurement: Measurement, check: Check) -> None:
    law(isinstance(measurement, Measurement), "run returns a Measurement")
    law(measurement.check == check.name, "a measurement carries the name of its check")
    law(measurement.better in ("lower", "higher"), "better is 'lower' or 'higher'")
    for label, estimate in _estimates(measurement).items():
        numbers = (estimate.value, estimate.low, estimate.high)
        law(all(map(math.isfinite, numbers)), f"{label}: value and interval are finite numbers")
        law(estimate.low <= estimate.value <= estimate.high, f"{label}: the value lies outside its own interval")
        law(0 < estimate.confidence <= 1 and estimate.n > 0, f"{label}: an estimate has a confidence and an n")
        law(estimate.method.strip() != "", f"{label}: an estimate says how its interval was made")
    p = measurement.p_value
    law(p is None or 0 <= p <= 1, "a p-value lies between 0 and 1")
    json.dumps(to_json(measurement), allow_nan=False)


def _estimates(measurement: Measurement) -> dict[str, Estimate]:
    named = {"statistic": measurement.statistic, "control": measurement.control, "power": measurement.power}
    return {name: e for name, e in {**measurement.details, **named}.items() if e is not None}


def _check_texts(measurement: Measurement, evidence: Evidence) -> None:
    texts = [measurement.label, measurement.answer, *measurement.notes, *measurement.details, *measurement.curves]
    law(measurement.label.strip() != "" and measurement.answer.strip() != "", "label and answer are written out")
    for text in texts:
        verdict = re.search(r"\b(PASS(ED)?|FAIL(ED|S)?)\b", text, re.IGNORECASE)
        law(verdict is None, "a check never judges: PASS and FAIL are the policy's words")
        for data in (evidence.train, evidence.holdout, evidence.synthetic):
            # A figure may equal an identifier such as 12.3 by chance.
            secrets = [s for s in (*unique_texts(data), *levels(data)) if not re.fullmatch(r"\d+\.\d+", s)]
            law(
                not named_in(text, secrets),
                "a text of the measurement holds an identifier, a note or a level of the data",
            )


def _same(left: Measurement, right: Measurement) -> bool:
    return to_json(dataclasses.replace(left, seconds=0.0)) == to_json(dataclasses.replace(right, seconds=0.0))


def _check_order(check: Check, measurement: Measurement, evidence: Evidence, root: Seed) -> None:
    """Rows have no order: shuffled, the figure moves by less than its interval is wide (folds and ties may differ)."""
    shuffled = check.run(_shuffled(evidence, root.child("order")), seed=root)
    first, second = measurement.statistic, shuffled.statistic
    width = max(first.high - first.low, second.high - second.low)
    law(abs(first.value - second.value) <= width + 1e-6, "the order of the rows changes the statistic")


def _shuffled(evidence: Evidence, seed: Seed) -> Evidence:
    rng = seed.numpy()
    if evidence.cohorts is not None:
        from synthgen.evidence import gathered_by

        cohorts = (evidence.cohorts.train, evidence.cohorts.holdout, evidence.cohorts.synthetic)
        return gathered_by(*(data.take(rng.permutation(len(data))) for data in cohorts))["cohort"]
    if evidence.images is not None:
        sets = (evidence.images.train, evidence.images.holdout, evidence.images.synthetic)
        return _of_images(Images(*(data.take(rng.permutation(len(data))) for data in sets)))
    train, holdout, synthetic = (
        data.take(rng.permutation(len(data))) for data in (evidence.train, evidence.holdout, evidence.synthetic)
    )
    return dataclasses.replace(evidence, train=train, holdout=holdout, synthetic=synthetic, shared={})
