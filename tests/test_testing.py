"""The batteries pass on everything that is registered, and reject every planted fault."""

import dataclasses
import json
from dataclasses import dataclass
from importlib.util import find_spec
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest

from synthgen import image_features, registry
from synthgen.errors import UsageError
from synthgen.findings import Estimate, Measurement
from synthgen.generators.checkpoint import load_model
from synthgen.generators.independent import Independent
from synthgen.image_features import RANDOM
from synthgen.privacy import image_copies, registration
from synthgen.testing import EXTREME, RARE_LEVEL, check_check, check_generator, check_image_generator, invented_cohort

FAST = {
    "diffusion": {"max_steps": 30},
    "gan": {"max_steps": 20},
    "image-diffusion": {"size": 16, "widths": (16, 32), "max_steps": 10},
    "image-gan": {"size": 16, "widths": (16, 32), "max_steps": 10},
    "image-pca": {"size": 32},
    "sdv-ctgan": {"epochs": 1, "max_tries": 1},
    "sdv-tvae": {"epochs": 1, "max_tries": 1},
    "sdv-copula": {"max_tries": 1},
}

QUICK = {
    "copies.blocks": {"max_rows": 150},
    "disclosure.singling_out": {"attacks": 500},
    "power": {"draws": 20},
    "fidelity.features": {"extractors": (RANDOM,), "repeats": 10},
    "fidelity.manifold": {"extractors": (RANDOM,)},
    "fidelity.image_detection": {"steps": 10, "folds": 2},
    "utility.train_on_synthetic": {"repeats": 50, "halves": 2},
    "utility.image_classifier": {"steps": 10, "repeats": 20},
    "cohort.agreement": {"steps": 10, "repeats": 20},
    "subgroups.images": {"extractor": RANDOM, "repeats": 10},
}


@pytest.mark.parametrize("name", registry.names("generators"))
def test_every_registered_generator_passes_the_battery(name):
    if name.startswith("sdv") and find_spec("sdv") is None:
        pytest.skip("SDV is not installed: pip install 'synthgen-health[sdv]'")
    generator = registry.create("generators", name, FAST.get(name))
    check = check_generator if registry.learns(generator) == "table" else check_image_generator
    check(generator)


@pytest.mark.parametrize("name", registry.names("checks"))
def test_every_registered_check_passes_the_battery(name, monkeypatch):
    monkeypatch.setattr(image_features, "STEPS", 20)  # an encoder hardly trained keeps the contract as well
    monkeypatch.setattr(image_copies, "PLANTED", 10)
    monkeypatch.setattr(registration, "STEPS", 5)
    check_check(registry.create("checks", name, QUICK.get(name)))


def test_the_invented_cohort_has_what_the_batteries_look_for():
    data = invented_cohort(500)
    women = data.table["sex"] == "F"
    assert data.table["psa"].isna()[women].all()
    assert 0 < data.table["psa"].isna()[~women].mean() < 0.15
    assert (data.table["diagnosis"] == RARE_LEVEL).sum() == 1
    assert (data.table["psa"] == EXTREME).sum() == 1
    assert data.table["patient"].is_unique
    assert data.table["note"].is_unique
    assert data.fingerprint() == invented_cohort(500).fingerprint() != invented_cohort(500, seed=1).fingerprint()


def edited(data, **columns):
    """The table with some columns replaced."""
    return dataclasses.replace(data, table=data.table.assign(**columns))


@dataclass
class Keeping(Independent):
    """An independent generator that remembers its training table, as only a broken one would."""

    def fit(self, train, *, seed, run=None):
        self.train = train
        return super().fit(train, seed=seed)


@dataclass
class ReturnsTrainIdentifiers(Keeping):
    def sample(self, n, *, seed, where=None, given=None):
        made = super().sample(n, seed=seed, where=where, given=given)
        return edited(made, patient=self.train.table["patient"].to_numpy()[:n])


@dataclass
class RepeatsIdentifiers(Independent):
    def sample(self, n, *, seed, where=None, given=None):
        return edited(super().sample(n, seed=seed, where=where, given=given), patient="SYN-1")


@dataclass
class WrongDtype(Independent):
    def sample(self, n, *, seed, where=None, given=None):
        made = super().sample(n, seed=seed, where=where, given=given)
        return edited(made, age=made.table["age"].astype(int))


@dataclass
class FractionsOfYears(Independent):
    def sample(self, n, *, seed, where=None, given=None):
        made = super().sample(n, seed=seed, where=where, given=given)
        return edited(made, age=made.table["age"] + 0.5)


@dataclass
class TooManyDecimals(Independent):
    def sample(self, n, *, seed, where=None, given=None):
        made = super().sample(n, seed=seed, where=where, given=given)
        return edited(made, bmi=made.table["bmi"] + 0.01)


@dataclass
class OutOfDeclaredBounds(Independent):
    def sample(self, n, *, seed, where=None, given=None):
        return edited(super().sample(n, seed=seed, where=where, given=given), age=130.0)


@dataclass
class NewLevels(Independent):
    def sample(self, n, *, seed, where=None, given=None):
        return edited(super().sample(n, seed=seed, where=where, given=given), diagnosis="Z99.9")


@dataclass
class OneRowTooMany(Independent):
    def sample(self, n, *, seed, where=None, given=None):
        return super().sample(n + 1, seed=seed, where=where)


@dataclass
class KeepsNotes(Independent):
    def sample(self, n, *, seed, where=None, given=None):
        made = super().sample(n, seed=seed, where=where, given=given)
        full = load_schema_with_note(made)
        return dataclasses.replace(made, schema=full, table=made.table.assign(note="seen"))


def load_schema_with_note(made):
    note = invented_cohort(50).schema["note"]
    return dataclasses.replace(made.schema, columns=(*made.schema.columns, note))


@dataclass
class FillsMissing(Independent):
    def sample(self, n, *, seed, where=None, given=None):
        made = super().sample(n, seed=seed)
        return edited(made, psa=made.table["psa"].fillna(1.0))


@dataclass
class InventsMissing(Independent):
    def sample(self, n, *, seed, where=None, given=None):
        made = super().sample(n, seed=seed, where=where, given=given)
        return edited(made, bmi=made.table["bmi"].where(np.arange(n) % 9 > 0))


@dataclass
class DrawsAfresh(Independent):
    def sample(self, n, *, seed, where=None, given=None):
        return super().sample(n, seed=int(np.random.default_rng().integers(2**31)), where=where, given=given)


@dataclass
class IgnoresSeed(Independent):
    def sample(self, n, *, seed, where=None, given=None):
        return super().sample(n, seed=0, where=where, given=given)


@dataclass
class SeedsIdentifiersOnly(Independent):
    def sample(self, n, *, seed, where=None, given=None):
        same, other = super().sample(n, seed=0, where=where, given=given), super().sample(n, seed=seed)
        return edited(same, patient=other.table["patient"])


@dataclass
class FitsAfresh(Independent):
    def fit(self, train, *, seed, run=None):
        return super().fit(train.take(np.random.default_rng().permutation(len(train))[:400]), seed=seed)


@dataclass
class GlobalDraws(Independent):
    def sample(self, n, *, seed, where=None, given=None):
        np.random.random()  # noqa: NPY002
        return super().sample(n, seed=seed, where=where, given=given)


@dataclass
class ChangesTrain(Independent):
    def fit(self, train, *, seed, run=None):
        fitted = super().fit(train, seed=seed)
        train.table["bmi"] = train.table["bmi"].fillna(0) + 1
        return fitted


@dataclass
class ReturnsNothing(Independent):
    def fit(self, train, *, seed, run=None):
        super().fit(train, seed=seed)


@dataclass
class IgnoresConditions(Independent):
    def sample(self, n, *, seed, where=None, given=None):
        super().sample(n, seed=seed, where=where, given=given)
        return super().sample(n, seed=seed)


@dataclass
class IgnoresGiven(Independent):
    def sample(self, n, *, seed, where=None, given=None):
        return super().sample(n, seed=seed, where=where)


@dataclass
class AnyColumn(Independent):
    def sample(self, n, *, seed, where=None, given=None):
        known = {name: value for name, value in (where or {}).items() if name != "no such column"}
        return super().sample(n, seed=seed, where=known, given=given)


@dataclass
class TellsLevels(Keeping):
    def sample(self, n, *, seed, where=None, given=None):
        try:
            return super().sample(n, seed=seed, where=where, given=given)
        except UsageError as error:
            known = ", ".join(self.train.table["diagnosis"].unique()) if where and n > 0 else ""
            raise UsageError(f"{error}; known: {known}") from error


@dataclass
class EmptyTable(Independent):
    def sample(self, n, *, seed, where=None, given=None):
        made = super().sample(max(n, 1), seed=seed, where=where, given=given)
        return made if n > 0 else made.take(np.arange(0))


@dataclass
class CrashesUnfitted(Independent):
    def sample(self, n, *, seed, where=None, given=None):
        self.model.schema  # noqa: B018
        return super().sample(n, seed=seed, where=where, given=given)


@dataclass
class LeavesPickle(Independent):
    def save(self, folder):
        super().save(folder)
        (folder / "model.pkl").write_bytes(b"anything")


@dataclass
class RecordsIdentifiers(Keeping):
    def save(self, folder):
        super().save(folder)
        (folder / "notes.json").write_text(json.dumps({"first": self.train.table["patient"].iloc[0]}))


@dataclass
class RecordsRareLevels(Keeping):
    def save(self, folder):
        super().save(folder)
        (folder / "levels.json").write_text(json.dumps(sorted(self.train.table["diagnosis"].dropna().unique())))


@dataclass
class RecordsExtremes(Keeping):
    def save(self, folder):
        super().save(folder)
        (folder / "bounds.json").write_text(json.dumps({"psa": [0, float(self.train.table["psa"].max())]}))


@dataclass
class LoadsAnother(Independent):
    @classmethod
    def load(cls, folder):
        generator, model = cls(), load_model(folder, generator=cls.name)
        tensors = {name: a[::-1] if name.endswith("tokens") else a for name, a in model.tensors.items()}
        generator.model = dataclasses.replace(model, tensors=tensors)
        return generator


@dataclass
class PandasOnly(Independent):
    def fit(self, train, *, seed, run=None):
        return super().fit(dataclasses.replace(train, backend="pandas"), seed=seed)


class NotADataclass:
    name, licence = "plain", "MIT"

    def fit(self, train, *, seed, run=None): ...
    def sample(self, n, *, seed, where=None, given=None): ...
    def save(self, folder): ...
    @classmethod
    def load(cls, folder): ...


@pytest.mark.parametrize(
    ("broken", "law"),
    [
        (ReturnsTrainIdentifiers, "identifiers of train"),
        (RepeatsIdentifiers, "identifiers are unique"),
        (WrongDtype, "float64"),
        (FractionsOfYears, "decimals"),
        (TooManyDecimals, "decimals"),
        (OutOfDeclaredBounds, "declared bounds"),
        (NewLevels, "neither in train nor declared"),
        (OneRowTooMany, "gives 501 rows"),
        (KeepsNotes, "without free text"),
        (FillsMissing, "no missing values, though"),
        (InventsMissing, "missing values, though train has none"),
        (DrawsAfresh, "same seed gives another"),
        (IgnoresSeed, "another seed gives the same"),
        (SeedsIdentifiersOnly, "nothing but the identifiers"),
        (FitsAfresh, "two fits"),
        (GlobalDraws, "global random state"),
        (ChangesTrain, "changes the training table"),
        (ReturnsNothing, "returns the generator itself"),
        (IgnoresConditions, "where on column"),
        (IgnoresGiven, "given on column"),
        (AnyColumn, "unknown column must raise"),
        (TellsLevels, "tells levels"),
        (EmptyTable, r"sample\(0\) must raise"),
        (CrashesUnfitted, "before fit must raise"),
        (LeavesPickle, "found '.pkl'"),
        (RecordsIdentifiers, "1 identifiers"),
        (RecordsRareLevels, "rare levels"),
        (RecordsExtremes, "1 extremes"),
        (LoadsAnother, "loaded generator samples other"),
        (PandasOnly, "pyarrow tables back"),
        (NotADataclass, "is a dataclass"),
    ],
)
def test_the_battery_rejects_a_broken_generator(broken, law):
    with pytest.raises(AssertionError, match=law):
        check_generator(broken())


@dataclass(frozen=True)
class OlderThanTrain:
    """A sound check to break: how much older is the synthetic cohort?"""

    name: ClassVar[str] = "example.age"
    question: ClassVar[str] = "Are the synthetic patients as old as the real ones?"
    needs: ClassVar[frozenset] = frozenset({"train", "synthetic"})

    def run(self, evidence, *, seed):
        synthetic, train = (data.table["age"] for data in (evidence.synthetic, evidence.train))
        gap, error = synthetic.mean() - train.mean(), np.hypot(synthetic.sem(), train.sem())
        interval = Estimate(gap, gap - 1.96 * error, gap + 1.96 * error, len(synthetic), "normal")
        return Measurement(
            self.name, "difference in mean age, years", interval, "lower", answer="They are about as old."
        )


@dataclass(frozen=True)
class Judges(OlderThanTrain):
    def run(self, evidence, *, seed):
        return dataclasses.replace(super().run(evidence, seed=seed), answer="The age check is passed.")


@dataclass(frozen=True)
class TellsAPatient(OlderThanTrain):
    def run(self, evidence, *, seed):
        note = f"oldest: {evidence.train.table['patient'].iloc[0]}"
        return dataclasses.replace(super().run(evidence, seed=seed), notes=(note,))


@dataclass(frozen=True)
class TellsALevel(OlderThanTrain):
    def run(self, evidence, *, seed):
        found = super().run(evidence, seed=seed)
        return dataclasses.replace(found, details={str(evidence.holdout.table["diagnosis"].mode()[0]): found.statistic})


@dataclass(frozen=True)
class Drifts(OlderThanTrain):
    def run(self, evidence, *, seed):
        found = super().run(evidence, seed=seed)
        return dataclasses.replace(found, p_value=float(np.random.default_rng().random()))


@dataclass(frozen=True)
class RemembersRuns(OlderThanTrain):
    def run(self, evidence, *, seed):
        evidence.shared["runs"] = evidence.shared.get("runs", 0) + 1
        return dataclasses.replace(super().run(evidence, seed=seed), notes=(f"run {evidence.shared['runs']}",))


@dataclass(frozen=True)
class EditsEvidence(OlderThanTrain):
    def run(self, evidence, *, seed):
        found = super().run(evidence, seed=seed)
        evidence.holdout.table.loc[0, "age"] = 50.5
        return found


@dataclass(frozen=True)
class OutsideItsInterval(OlderThanTrain):
    def run(self, evidence, *, seed):
        found = super().run(evidence, seed=seed)
        return dataclasses.replace(found, statistic=dataclasses.replace(found.statistic, value=99.0))


@dataclass(frozen=True)
class NotANumber(OlderThanTrain):
    def run(self, evidence, *, seed):
        found = super().run(evidence, seed=seed)
        return dataclasses.replace(found, control=dataclasses.replace(found.statistic, value=np.nan))


@dataclass(frozen=True)
class FirstRowsOnly(OlderThanTrain):
    def run(self, evidence, *, seed):
        first = evidence.synthetic.table["age"].iloc[:3].mean()
        return dataclasses.replace(
            super().run(evidence, seed=seed), statistic=Estimate(first, first - 0.01, first + 0.01, 3, "none")
        )


@dataclass(frozen=True)
class Statement(OlderThanTrain):
    question: ClassVar[str] = "The synthetic patients are as old as the real ones."


@dataclass(frozen=True)
class NeedsMagic(OlderThanTrain):
    needs: ClassVar[frozenset] = frozenset({"magic"})


@dataclass(frozen=True)
class AnotherName(OlderThanTrain):
    def run(self, evidence, *, seed):
        return dataclasses.replace(super().run(evidence, seed=seed), check="example.height")


def test_the_battery_accepts_a_sound_check():
    check_check(OlderThanTrain())


@pytest.mark.parametrize(
    ("broken", "law"),
    [
        (Judges, "never judges"),
        (TellsAPatient, "identifier"),
        (TellsALevel, "level of the data"),
        (Drifts, "another measurement"),
        (RemembersRuns, "another measurement"),
        (EditsEvidence, "changes its evidence"),
        (OutsideItsInterval, "outside its own interval"),
        (NotANumber, "finite"),
        (FirstRowsOnly, "order of the rows"),
        (Statement, "question mark"),
        (NeedsMagic, "needs some of"),
        (AnotherName, "name of its check"),
    ],
)
def test_the_battery_rejects_a_broken_check(broken, law):
    with pytest.raises(AssertionError, match=law):
        check_check(broken())


def test_the_battery_runs_on_any_table():
    data = invented_cohort(120, seed=3)
    table = data.table.assign(bmi=np.nan, sex="F", diagnosis=pd.Series([None] * 120, dtype=object), psa=np.nan)
    check_generator(Independent(), data=dataclasses.replace(data, table=table))
