"""No patient crosses: names, numbers, dates, UIDs and paths planted into headers, files and pixels are looked for."""

import contextlib
import io
import logging

import numpy as np
import pandas as pd
import pytest
import torch
from dicom_cases import CANARIES, canary_bytes, enhanced, image_object, save, smooth, with_text

import synthgen as sg
from synthgen.cli import main
from synthgen.dicom.index import index
from synthgen.dicom.summary import summary
from synthgen.errors import SynthgenError
from synthgen.images import ImageData

PATIENTS = 6


@pytest.fixture
def source(tmp_path):
    """A folder whose path, file names, headers and private tags name a patient; some files are broken."""
    folder = tmp_path / "Featherstonehaugh Peregrine" / CANARIES["PatientID"]
    for patient in range(PATIENTS):
        pixels = np.random.default_rng(patient).integers(0, 4_000, (16, 16)).astype("uint16")
        identifiers = {"study": patient + 1, "patient": f"{CANARIES['PatientID']}-{patient}"}
        words = {"BodyPartExamined": "PEREGRINE", "ViewPosition": "QUACKENBUSH"}  # where a code should be
        save(image_object(pixels, **words, **identifiers), folder / f"Quackenbush {patient}.dcm")
    save(enhanced(np.zeros((2, 8, 8), dtype="uint16"), slopes=[1, 1]), folder / "Peregrine.dcm")
    burned = with_text(smooth(1), "PEREGRINE F")
    save(image_object(burned, at=8, **identifiers), folder / "burned.dcm")
    save(image_object(PatientAge="Peregrine", Rows=99), folder / "broken.dcm")
    whole = save(image_object(at=7), folder / "cut.dcm").read_bytes()
    (folder / "cut.dcm").write_bytes(whole[:700])
    (folder / "Featherstonehaugh.txt").write_text("Featherstonehaugh")
    return folder


def found_in(content):
    return [canary for canary in canary_bytes() if canary in content]


def all_bytes(folder):
    return b"".join(
        str(path.relative_to(folder)).encode() + path.read_bytes() for path in folder.rglob("*") if path.is_file()
    )


def test_reading_leaves_no_identifier_in_records_logs_messages_or_caches(source, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    labels = pd.DataFrame(
        {"PatientID": [f"{CANARIES['PatientID']}-{i}" for i in range(PATIENTS)], "finding": list("ababab")}
    )
    images = sg.read_images(source, labels=labels)
    cache = images.dataset(lambda image: torch.from_numpy(image), cache=tmp_path / "cache")
    for i in range(len(images)):
        cache[i]
    records = images.records.table.to_csv() + repr(images) + images._repr_html_() + str(images.records.schema)
    said = caplog.text + records + repr(summary(index(source)))
    with pytest.raises(SynthgenError) as error:
        sg.read_images(source, labels=pd.DataFrame({"PatientID": ["Featherstonehaugh"], "finding": ["a"]}))
    assert {images.read(i).shape for i in range(len(images))} == {(16, 16), (8, 8)}  # the one with a name in it is not
    assert "1 burned-in text" in caplog.text
    assert not found_in((said + str(error.value)).encode())
    assert not found_in(all_bytes(tmp_path / "cache"))


def test_writing_leaves_no_identifier_in_any_byte(source, tmp_path, caplog):
    """Even a generator that hands its input's records on: groups are digested, words that are no codes are dropped."""
    caplog.set_level(logging.DEBUG)
    real = sg.read_images(source)
    frame = real.records.table.assign(
        patient=[f"{CANARIES['PatientID']}-{i}" for i in range(len(real))],
        study=CANARIES["AccessionNumber"],
        series="Featherstonehaugh",
        body_part=CANARIES["StudyDescription"],
        view="PEREGRINE",
        laterality="St Swithuns Infirmary",
        sex="F",
        finding=CANARIES["PatientName"],
        row_spacing_mm=0.5,
        column_spacing_mm=0.5,
    )
    for kind in ("CT", "MR", "CR", "DX", "MG", "US", "OT"):
        needed = {"MG": {"laterality": "L", "view": "CC"}, "US": {"bits": 8}}.get(kind, {})
        copies = ImageData.of_arrays([real.read(i) for i in range(len(real))], frame.assign(**needed))
        sg.write_dicom(copies, tmp_path / "out" / kind, seed=1, generator="copier", modality=kind)
    assert not found_in(all_bytes(tmp_path / "out"))
    assert not found_in(caplog.text.encode())


def test_inspect_shows_no_identifier(source, tmp_path):
    for arguments in ([], ["--json"], ["--headers-only"]):
        said, complained = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(complained), pytest.raises(SystemExit) as end:
            main(["dicom", "inspect", str(source), *arguments])
        assert end.value.code == 0
        assert "header cannot be read" in said.getvalue() or "fewer pixels" in said.getvalue()
        assert not found_in((said.getvalue() + complained.getvalue()).encode())
    with contextlib.redirect_stderr(io.StringIO()) as complained, pytest.raises(SystemExit) as end:
        main(["dicom", "inspect", str(source / "Featherstonehaugh gone")])
    assert end.value.code == 2
    assert not found_in(complained.getvalue().encode())


def test_names_of_files_are_written_only_where_a_person_asks(source, tmp_path):
    outputs = ["--put-aside", str(tmp_path / "aside.csv"), "--contact-sheet", str(tmp_path / "a.png")]
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said), pytest.raises(SystemExit):
        main(["dicom", "inspect", str(source), *outputs])
    rows = pd.read_csv(tmp_path / "aside.csv")
    assert "Featherstonehaugh.txt" in set(rows["file"])
    assert not found_in((tmp_path / "a.png").read_bytes())
