"""Reading and writing tables: what comes in goes out, and bad input gets a clear error without a value in it."""

import gzip

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from conftest import invented_patients

from synthgen.data import TableData
from synthgen.errors import DataError, EnvironmentProblem, SchemaError, UsageError
from synthgen.io import read, write
from synthgen.schema import Column, TableSchema

SECRET = "Zebulon-4711"


def typed_frame():
    n = 30
    return pd.DataFrame(
        {
            "patient_id": [f"A{i}" for i in range(n)],
            "sex": pd.Categorical(["F", "M"] * (n // 2)),
            "dose": pd.Categorical([1, 2] * (n // 2)),
            "weight": [61.5, None] * (n // 2),
            "alive": [True, False] * (n // 2),
            "asked": pd.array([True, None] * (n // 2), dtype="boolean"),
            "seen": pd.date_range("2020-01-01", periods=n),
            "visits": pd.array([1, None, 5] * (n // 3), dtype="Int64"),
            "ward": pd.array(["a", "b"] * (n // 2), dtype="string[pyarrow]"),
            "stage": pd.array([1, 2, 9] * (n // 3), dtype="int8"),
            "logged": pd.date_range("2020-01-01", periods=n, tz="UTC"),
        }
    )


def test_pandas_frames_come_back_as_they_went_in():
    frame = typed_frame()
    pd.testing.assert_frame_equal(read(frame).frame, frame)


@pytest.mark.parametrize("unit", ["ns", "us", "s"])
def test_time_zones_of_any_unit_and_hours_that_clocks_skip(unit):
    seen = pd.date_range("2021-03-01", periods=30, freq="D", tz="Europe/Berlin").as_unit(unit)
    data = read(pd.DataFrame({"seen": seen, "x": range(30, 60)}))
    assert data.frame["seen"].dtype == seen.dtype
    assert (data.frame["seen"] == seen).all()
    skipped = data.table.assign(seen=pd.Timestamp("2021-03-28 02:30"))
    assert data.frame["seen"].notna().all()
    assert TableData(skipped, data.schema).frame["seen"].notna().all()


def test_missing_values_need_nullable_integers():
    schema = TableSchema((Column("a", "integer", dtype="uint8"), Column("b", "boolean", dtype="bool")))
    frame = read(pd.DataFrame({"a": [1.0, None], "b": [True, None]}), schema=schema).frame
    assert [str(dtype) for dtype in frame.dtypes] == ["UInt8", "boolean"]


def test_polars_frames_come_back_as_they_went_in():
    frame = pl.from_pandas(typed_frame())
    back = read(frame).frame
    assert back.schema == frame.schema
    assert back.equals(frame)


def test_pyarrow_tables_come_back_with_their_types():
    table = pa.table({"age": pa.array([1, 2, 3], pa.int16()), "ok": [True, None, False], "x": [0.5, 1.5, None]})
    back = read(table).frame
    assert back.schema.remove_metadata() == table.schema
    assert back.to_pylist() == table.to_pylist()


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet", ".arrow", ".feather", ".xlsx"])
def test_every_format_keeps_the_fingerprint(tmp_path, suffix):
    data = read(invented_patients(80))
    path = tmp_path / f"out{suffix}"
    write(data, path)
    again = read(path, schema=data.schema)
    assert again.fingerprint() == data.fingerprint()


def test_full_precision_survives_text(tmp_path):
    values = np.random.default_rng(0).normal(size=500)
    schema = TableSchema((Column("x", "real"),))
    data = read(pd.DataFrame({"x": values}), schema=schema)
    write(data, tmp_path / "x.csv")
    assert (read(tmp_path / "x.csv", schema=schema).table["x"].to_numpy() == values).all()


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("a;b\n1;x\n2;y\n", "utf-8"),
        ("a\tb\n1\tx\n2\ty\n", "utf-8"),
        ("a|b\n1|x\n2|y\n", "utf-8"),
        ("a,b\n1,x\n2,y\n", "utf-16"),
        ("a,b\n1,x\n2,y\n", "utf-8-sig"),
        ('a,b\n1,"x"\n2,"y"\n', "utf-8"),
    ],
)
def test_delimiters_and_encodings_are_recognised(tmp_path, text, encoding):
    path = tmp_path / "t.csv"
    path.write_bytes(text.encode(encoding))
    data = read(path)
    assert data.schema.names == ("a", "b")
    assert data.table["a"].tolist() == [1.0, 2.0]
    assert data.table["b"].tolist() == ["x", "y"]


def test_gzip_is_read(tmp_path):
    path = tmp_path / "t.csv.gz"
    path.write_bytes(gzip.compress(b"a,b\n1,x\n2,y\n"))
    assert len(read(path)) == 2


def test_latin1_is_named_and_can_be_chosen(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes("name_of_ward,n\nHöhe,1\nTür,2\n".encode("latin-1"))
    with pytest.raises(DataError, match="latin-1"):
        read(path)
    assert read(path, encoding="latin-1").table["name_of_ward"].tolist() == ["Höhe", "Tür"]


def test_decimal_commas_in_semicolon_files(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("x;y\n3,14;a\n2,5;b\n")
    assert read(path).table["x"].tolist() == [3.14, 2.5]


def bad_file(tmp_path, content):
    path = tmp_path / "bad.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "empty"),
        ("a,b\n", "no rows"),
        (f"a,a\n1,{SECRET}\n", "same name"),
        (f"a,b\n1,2\n3,4,{SECRET}\n", "1 rows have another number of fields"),
        (f"a,b\n1,2\n{SECRET}\n", "1 rows have another number of fields"),
        ("a,b\n" + "".join(f"{i},x\n" for i in range(60)) + "inf,x\n", "infinit"),
        ("a,b\n" + "".join(f"{i},x\n" for i in range(60)) + f"{SECRET},x\n", "60 numbers with 1 other"),
        ("d,b\n" + "2020-01-01,1\n" * 30 + "9999-12-31,1\n", "1 dates out of range"),
        (",".join(f"c{i}" for i in range(10_000)) + "\n" + ",".join(["1"] * 10_000) + "\n", "10,000 columns"),
        (b"\x00\x01\x02\x03" * 50, "not"),
    ],
)
def test_bad_files_get_clear_errors_without_values(tmp_path, content, message):
    with pytest.raises(DataError, match=message) as caught:
        read(bad_file(tmp_path, content))
    assert SECRET not in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


def test_a_missing_file_is_a_data_error_that_names_the_file_only(tmp_path):
    with pytest.raises(DataError, match=r"absent\.csv") as caught:
        read(tmp_path / "absent.csv")
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize("suffix", [".parquet", ".feather", ".xlsx"])
def test_damaged_binary_files(tmp_path, suffix):
    path = tmp_path / f"bad{suffix}"
    path.write_bytes(b"this is no such file" * 20)
    with pytest.raises(DataError):
        read(path)


def test_unknown_suffix_and_folder(tmp_path):
    (tmp_path / "x.sav").write_bytes(b"abc")
    with pytest.raises(DataError, match="unknown kind"):
        read(tmp_path / "x.sav")
    with pytest.raises(DataError, match="folder"):
        read(tmp_path)
    with pytest.raises(DataError, match="list"):
        read([1, 2, 3])


def test_constant_and_all_missing_columns_are_fine(tmp_path):
    data = read(bad_file(tmp_path, "c,m,x\n" + "7,,1.5\n" * 30))
    assert data.table["m"].isna().all()
    assert (data.table["c"] == 7).all()


def test_missing_patient_ids_are_counted(tmp_path):
    frame = invented_patients(50)
    frame.loc[3:5, "patient_id"] = None
    with pytest.raises(DataError, match="'patient_id' is missing in 3 rows") as caught:
        read(frame)
    assert "HX-" not in str(caught.value)


def test_a_schema_that_does_not_fit_names_the_columns():
    schema = TableSchema((Column("age", "integer"), Column("absent", "real")))
    with pytest.raises(DataError, match="lacks \\['absent'\\] and has \\['sex'\\]"):
        read(pd.DataFrame({"age": [1], "sex": ["F"]}), schema=schema)


def test_values_that_break_their_kind_are_counted():
    frame = pd.DataFrame({"age": ["51", SECRET, "47"]})
    with pytest.raises(DataError, match="'age' is integer, but 1 values are not numbers") as caught:
        read(frame, schema=TableSchema((Column("age", "integer"),)))
    assert SECRET not in str(caught.value)
    with pytest.raises(DataError, match="1 values have a fraction"):
        read(pd.DataFrame({"age": [1.0, 1.5]}), schema=TableSchema((Column("age", "integer"),)))
    with pytest.raises(DataError, match="1 values are neither 0 nor 1"):
        read(pd.DataFrame({"dead": [0, 1, 2]}), schema=TableSchema((Column("dead", "boolean"),)))


def test_missing_codes_of_a_column():
    schema = TableSchema((Column("lab", "real", missing=("-9", "pending")),))
    data = read(pd.DataFrame({"lab": ["5.1", "-9", "pending", "?", "4.9"]}), schema=schema)
    assert data.table["lab"].isna().tolist() == [False, True, True, True, False]
    typed = read(pd.DataFrame({"lab": [5.1, -9.0, 4.9]}), schema=schema)
    assert typed.table["lab"].isna().tolist() == [False, True, False]


def test_unknown_target_is_suggested():
    with pytest.raises(SchemaError, match="did you mean 'died'"):
        read(invented_patients(30), target="dead")


def test_nothing_half_written(tmp_path, monkeypatch):
    data = read(invented_patients(30))
    with pytest.raises(UsageError, match=r"\.sas"):
        write(data, tmp_path / "x.sas")

    def full_disk(self, path, **_):
        path.write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pd.DataFrame, "to_csv", full_disk)
    with pytest.raises(EnvironmentProblem, match="No space left"):
        write(data, tmp_path / "x.csv")
    assert list(tmp_path.iterdir()) == []
