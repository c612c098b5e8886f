"""Does every released file say that it is synthetic, and do others' programs read what a release says of itself?"""

from __future__ import annotations

import json

import mlcroissant
import numpy as np
import pandas as pd
import pytest
from csvw import CSVW
from PIL import Image
from pyarrow import parquet
from pydicom.data import get_testdata_file
from release_cases import ROWS, SCHEMA, objects, passed, table

import synthgen as sg
from synthgen import io
from synthgen.dicom.header import ACCEPTABLE
from synthgen.errors import ReleaseRefused, UsageError
from synthgen.folders import sha256_of
from synthgen.image_output import copy_objects
from synthgen.marks import MARKS, STATEMENT
from synthgen.phantom import phantom
from synthgen.releasing import release, verify
from synthgen.report.columns import written_columns
from synthgen.report.csvw import csvw
from synthgen.schema import Column, TableSchema

pytestmark = pytest.mark.filterwarnings("ignore:ConjunctiveGraph is deprecated")  # in rdflib, by its own parser


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    data = table()
    return release(passed(data), data, tmp_path_factory.mktemp("out") / "release", licence="CC BY 4.0")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    images = phantom(6, seed=3, size=32)
    return release(passed(images), images, tmp_path_factory.mktemp("out") / "release")


def test_parquet_says_that_it_is_synthetic(released):
    found = parquet.read_schema(released / "data.parquet").metadata
    assert {key.decode(): text.decode() for key, text in found.items() if key != b"pandas"} == MARKS
    assert MARKS["SyntheticData"] == "YES"


def test_pictures_say_that_they_are_synthetic(pictures):
    paths = sorted((pictures / "images").glob("*.png"))
    assert len(paths) == len(sg.read_images(pictures / "images")) > 5
    for path in paths:
        with Image.open(path) as picture:
            assert picture.text == MARKS


def test_an_object_that_does_not_say_that_it_is_synthetic_is_not_released(tmp_path):
    real = sg.read_images(get_testdata_file("CT_small.dcm"), accept=ACCEPTABLE)
    with pytest.raises(ReleaseRefused, match="does not say that it is synthetic"):
        copy_objects(real, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_every_other_text_of_a_release_says_so_too(released, pictures):
    for folder in (released, pictures):
        for path in folder.rglob("*"):
            if path.suffix in (".json", ".md", ".html", ".yaml"):
                assert "synthetic" in path.read_text(encoding="utf-8").lower(), path.name
        for path in folder.rglob("*-metadata.json"):
            assert json.loads(path.read_text(encoding="utf-8"))["dc:description"] == STATEMENT


def test_metadata_go_only_where_a_file_can_carry_them(tmp_path):
    frame = pd.DataFrame({"a": [1, None], "b": ["x", "y"]})
    io.write(frame, tmp_path / "t.arrow", metadata={"a key": "a value"})
    pd.testing.assert_frame_equal(pd.read_feather(tmp_path / "t.arrow"), frame)
    with pytest.raises(UsageError, match="carries no metadata"):
        io.write(frame, tmp_path / "t.csv", metadata={"a key": "a value"})
    assert [path.name for path in tmp_path.iterdir()] == ["t.arrow"]


def test_the_sidecar_of_the_table_is_csv_on_the_web(released):
    """Judged by another library: each cell is of the datatype that the sidecar names."""
    read = CSVW(str(released / "data.csv-metadata.json"), validate=True)
    assert read.is_valid
    rows = list(read.tables[0])
    assert [list(row.values())[:3] for row in rows[:2]] == [["7000", 30, None], ["7001", 31, 101.0]]
    assert (rows[0]["born"], rows[1]["born"].date().isoformat()) == (None, "1960-02-29")
    assert [row["smoker"] for row in rows[:3]] == [False, True, None]
    assert [row["pregnant"] for row in rows[:3]] == [None, False, True]
    assert [row["arm"] for row in rows[:3]] == ["None", 'A, "B"', None]
    told = json.loads((released / "data.csv-metadata.json").read_text(encoding="utf-8"))
    assert told["dc:license"] == "CC BY 4.0"
    columns = {column["titles"]: column for column in told["tableSchema"]["columns"]}
    assert list(columns) == list(SCHEMA.names)
    assert columns["age"]["schema:unitText"] == "years"
    assert columns["age"]["dc:description"] == "at baseline"
    assert columns["age"]["datatype"] == "integer"
    assert columns["cd4"]["datatype"] == "number"  # it is written as 101.0
    assert columns["_hidden"]["name"] == "%5Fhidden"


def test_a_cell_of_another_datatype_is_found_by_the_judge_of_the_sidecar(released, tmp_path):
    """The test above can fail."""
    for name in ("data.csv", "data.csv-metadata.json"):
        (tmp_path / name).write_text((released / name).read_text(encoding="utf-8").replace("7003,33,", "7003,old,"))
    judged = CSVW(str(tmp_path / "data.csv-metadata.json"), validate=True)
    with pytest.raises(UserWarning, match="invalid lexical value"):  # a warning, which is an error here
        judged.is_valid  # noqa: B018


def test_croissant_is_valid_and_reads_the_very_data(released):
    dataset = mlcroissant.Dataset(jsonld=str(released / "croissant.json"))
    assert dataset.metadata.ctx.issues.errors == set()
    wanting = {warning.rsplit("/", 1)[1].split('"')[0] for warning in dataset.metadata.ctx.issues.warnings}
    assert wanting <= {"citeAs", "datePublished", "version"}, "only what the publisher alone knows"
    assert [str(one) for one in dataset.metadata.license] == ["CC BY 4.0"]
    assert dataset.metadata.conforms_to[0] == "http://mlcommons.org/croissant/1.1"
    found = [{key.split("/", 1)[1]: value for key, value in one.items()} for one in dataset.records("rows")]
    expected = table().table
    assert len(found) == ROWS
    for column in SCHEMA.columns:
        key = {"dose (mg)": "dose%20%28mg%29", "_hidden": "%5Fhidden"}.get(column.name, column.name)
        values = [one[key].decode() if isinstance(one[key], bytes) else one[key] for one in found]
        if column.name == "told":
            values = [None if value is None else float(value) for value in values]
        wanted = [None if pd.isna(value) else value for value in expected[column.name]]
        assert values == wanted, column.name


def test_croissant_notices_other_data(released, tmp_path):
    for path in released.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    io.write(table().take(np.arange(5)), tmp_path / "data.parquet")
    dataset = mlcroissant.Dataset(jsonld=str(tmp_path / "croissant.json"))
    with pytest.raises(mlcroissant.GenerationError) as raised:
        list(dataset.records("rows"))
    assert "hash" in str(raised.value.__cause__).lower()


def test_croissant_tells_what_audit_and_schema_know(released):
    told = json.loads((released / "croissant.json").read_text(encoding="utf-8"))
    sensitive = " ".join(told["rai:personalSensitiveInformation"])
    assert "Identifiers, made up: id." in sensitive
    assert "Quasi-identifiers: age." in sensitive
    assert "Sensitive: arm." in sensitive
    assert "Can an attacker tell who was in the training data?" in sensitive
    assert "0.520 [0.480, 0.560] (95% interval by DeLong, n = 1,500)" in sensitive
    assert "1,497 rows of 1,497 real patients" in told["rai:dataCollection"]
    assert any("re-identify" in limitation for limitation in told["rai:dataLimitations"])
    assert any("AUC on real patients" in use for use in told["rai:dataUseCases"])
    assert told["rai:dataBiases"]
    assert {one["@id"]: one["sha256"] for one in told["distribution"]} == {
        name: sha256_of(released / name) for name in ("data.csv", "data.parquet")
    }
    assert "0.77123" not in json.dumps(told), "a figure of seven patients"


def test_croissant_without_a_licence_claims_none(pictures):
    assert "license" not in json.loads((pictures / "croissant.json").read_text(encoding="utf-8"))


def test_croissant_of_images_holds_a_file_set_and_the_labels(pictures, tmp_path):
    made = objects(tmp_path / "made")
    dicom = release(passed(made), made, tmp_path / "release", licence="https://creativecommons.org/licenses/by/4.0/")
    for folder, name in ((pictures, "images.png"), (dicom, "images.dcm")):
        verify(folder)
        dataset = mlcroissant.Dataset(jsonld=str(folder / "croissant.json"))
        assert dataset.metadata.ctx.issues.errors == set()
        assert [one.id for one in dataset.metadata.file_sets] == [name]
        labels = pd.read_csv(folder / "images" / "labels.csv")
        found = list(dataset.records("labels"))
        assert len(labels) == len(list((folder / "images").glob(name.replace("images", "*")))) > 3
        assert [one["labels/finding"].decode() for one in found] == labels["finding"].tolist()
        assert CSVW(str(folder / "images" / "labels.csv-metadata.json"), validate=True).is_valid
        assert len(sg.read_images(folder / "images", accept=ACCEPTABLE)) == len(labels)


@pytest.mark.parametrize(
    ("moments", "layout"),
    [
        (pd.DatetimeIndex(["2020-01-02", None]), "yyyy-MM-dd"),
        (pd.DatetimeIndex(["2020-01-02 10:30:00.5", "2020-01-03"]), "yyyy-MM-dd HH:mm:ss.SSS"),
        (pd.DatetimeIndex(["2020-01-02 10:30", "2020-07-02 10:30"], tz="Europe/Berlin"), "yyyy-MM-dd HH:mm:ssXXX"),
    ],
)
def test_the_layout_of_dates_is_the_one_they_are_written_in(tmp_path, moments, layout):
    path, schema = tmp_path / "data.csv", TableSchema((Column("t", "datetime"),))
    io.write(pd.DataFrame({"t": moments}), path)
    columns = written_columns(path, schema)
    assert columns[0].layout == layout
    path.with_name("data.csv-metadata.json").write_text(json.dumps(csvw("data.csv", columns)), encoding="utf-8")
    assert CSVW(str(tmp_path / "data.csv-metadata.json"), validate=True).is_valid
