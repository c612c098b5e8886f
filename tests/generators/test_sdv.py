"""SDV behind the adapter: what it is handed, what it may write, and what its pickle may hold."""

import dataclasses
import os
import struct
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from synthgen.errors import DataError, EnvironmentProblem, Interrupted, UsageError
from synthgen.generators import sdv as adapter
from synthgen.generators.sdv import PICKLE, SdvCopula, SdvCtgan, SdvTvae, load_sdv
from synthgen.protocols import Run
from synthgen.testing import EXTREME, RARE_LEVEL, invented_cohort

ALL = [SdvCtgan(epochs=1), SdvTvae(epochs=1), SdvCopula()]


def needs_sdv():
    pytest.importorskip("sdv", reason="SDV is not installed: pip install 'synthgen-health[sdv]'")


@pytest.fixture(scope="module")
def fitted():
    needs_sdv()
    return SdvCopula(max_tries=2).fit(invented_cohort(400), seed=1)


@pytest.fixture
def saved(fitted, tmp_path):
    fitted.save(tmp_path / "model")
    return tmp_path / "model"


def test_without_sdv_the_error_says_what_to_install(monkeypatch):
    for name in ["sdv", *(module for module in sys.modules if module.startswith("sdv."))]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(EnvironmentProblem, match=r"pip install 'synthgen-health\[sdv\]'"):
        SdvCopula().fit(invented_cohort(50), seed=0)


def test_the_licence_is_not_open_source():
    assert {generator.licence for generator in ALL} == {"BUSL-1.1"}


@pytest.mark.parametrize("generator", ALL, ids=lambda g: g.name)
def test_settings_are_those_of_sdv_with_its_defaults(generator):
    needs_sdv()
    import inspect

    signature = inspect.signature(getattr(load_sdv().single_table, generator.synthesizer_class).__init__).parameters
    for name, value in vars(type(generator)()).items():
        if name in signature and name != "default_distribution":  # SDV writes its default there as None
            assert value == signature[name].default


def test_a_pickle_is_not_loaded_without_trust(saved):
    with pytest.raises(UsageError, match="trust=True"):
        SdvCopula.load(saved)


def test_with_trust_the_loaded_generator_samples_the_same(fitted, saved):
    loaded = SdvCopula.load(saved, trust=True)
    assert loaded.max_tries == 2
    assert loaded.sample(50, seed=3).fingerprint() == fitted.sample(50, seed=3).fingerprint()


@pytest.mark.parametrize("damage", ["changed", "gone"])
def test_another_pickle_is_refused_even_with_trust(saved, damage):
    path = saved / PICKLE
    body = path.read_bytes()
    path.unlink()
    if damage == "changed":
        path.write_bytes(body[:-1] + bytes([body[-1] ^ 1]))
    with pytest.raises(DataError, match=PICKLE):
        SdvCopula.load(saved, trust=True)


def test_a_folder_of_another_generator_is_refused(saved):
    with pytest.raises(DataError, match="sdv-copula"):
        SdvCtgan.load(saved, trust=True)


@pytest.mark.parametrize("generator", ALL, ids=lambda g: g.name)
def test_the_pickle_holds_no_identifier_rare_level_or_extreme(generator, tmp_path):
    needs_sdv()
    train = invented_cohort(300)
    generator.fit(train, seed=1).save(tmp_path)
    body = (tmp_path / PICKLE).read_bytes()
    secrets = [RARE_LEVEL, *train.table["patient"], *train.table["note"]]
    assert not [secret for secret in secrets if secret.encode() in body]
    assert struct.pack("<d", EXTREME) not in body
    assert b"E11.9" in body  # the search does find what is there


def test_ctgan_forgets_which_rows_have_which_level():
    needs_sdv()
    generator = SdvCtgan(epochs=1).fit(invented_cohort(200), seed=1)
    sampler = generator.synthesizer._model._data_sampler
    assert not sampler._rid_by_cat_cols
    arrays = [value for value in vars(sampler).values() if isinstance(value, np.ndarray)]
    assert max(array.size for array in arrays) < 200


def test_the_metadata_names_kinds_only(fitted):
    described = fitted.synthesizer.get_metadata().to_dict()["tables"]["records"]
    assert "primary_key" not in described
    kinds = {body["sdtype"] for body in described["columns"].values()}
    assert kinds == {"numerical", "categorical", "boolean", "datetime"}
    assert not set(described["columns"]) & set(invented_cohort(10).schema.names)


def test_columns_without_values_come_back_missing():
    needs_sdv()
    data = invented_cohort(200)
    train = dataclasses.replace(data, table=data.table.assign(psa=np.nan, smoker=1.0, bmi=25.0))
    fitted = SdvCopula().fit(train, seed=1)
    made = fitted.sample(40, seed=2, where={"psa": None}).table
    assert made["psa"].isna().all()
    assert (made["smoker"] == 1).all()
    assert (made["bmi"] == 25).all()


def test_a_table_without_any_values_is_refused():
    needs_sdv()
    data = invented_cohort(60)
    empty = {column.name: data.table[column.name].mask(np.ones(60, dtype=bool)) for column in data.schema.learned}
    with pytest.raises(DataError, match="nothing to learn"):
        SdvCopula().fit(dataclasses.replace(data, table=data.table.assign(**empty)), seed=0)


def test_conditions_that_rejection_does_not_reach_are_refused_with_counts():
    needs_sdv()
    data = invented_cohort(300)
    fitted = SdvTvae(epochs=1, max_tries=1).fit(data, seed=1)
    with pytest.raises(UsageError, match="of 30 rows") as caught:
        fitted.sample(30, seed=2, where={"age": 61, "bmi": 27.3, "diagnosis": "C61.0", "sex": "M"})
    assert "C61.0" not in str(caught.value)


def test_given_rows_come_back_in_their_order(fitted):
    rows = pd.DataFrame({"sex": ["F", "M", "M", "F"] * 3, "died": [True, False, True, False] * 3})
    made = fitted.sample(12, seed=4, given=rows).table
    assert made["sex"].tolist() == rows["sex"].tolist()
    assert made["died"].tolist() == rows["died"].astype(float).tolist()


def test_different_seeds_also_move_the_missing_values(fitted):
    patterns = [tuple(fitted.sample(200, seed=seed).table["psa"].isna()) for seed in (1, 2)]
    assert patterns[0] != patterns[1]


def test_a_stop_before_sdv_begins_is_obeyed():
    needs_sdv()
    with pytest.raises(Interrupted):
        SdvCopula().fit(invented_cohort(60), seed=0, run=Run(stop=lambda: True))


def test_it_prints_nothing(fitted, capfd):
    fitted.sample(10, seed=1, where={"sex": "F"})
    assert capfd.readouterr() == ("", "")


QUIET_JOB = """
import pathlib, socket, sys
def no_network(*args, **kwargs):
    raise AssertionError("network")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = no_network
from synthgen.generators.sdv import SdvCopula
from synthgen.testing import invented_cohort
SdvCopula().fit(invented_cohort(80), seed=1).save(pathlib.Path("model"))
SdvCopula.load("model", trust=True).sample(5, seed=2, where={"sex": "F"})
"""


def test_nothing_is_written_outside_the_model_folder_and_no_network_is_used(tmp_path):
    needs_sdv()
    folders = {name: tmp_path / name for name in ("HOME", "TMPDIR", "work")}
    for folder in folders.values():
        folder.mkdir()
    kept = {key: value for key, value in os.environ.items() if not key.startswith("XDG_")}
    environment = {**kept, **{key: str(folders[key]) for key in ("HOME", "TMPDIR")}, "PYTHONDONTWRITEBYTECODE": "1"}
    subprocess.run([sys.executable, "-c", QUIET_JOB], check=True, cwd=folders["work"], env=environment, timeout=300)
    written = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert written == ["work/model/manifest.json", f"work/model/{PICKLE}"]


def test_threads_are_set_back(fitted):
    import torch

    before = torch.get_num_threads()
    with adapter._tamed(fitted.model.seed, 1):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before
