"""Push and pull against real archives and against faulty ones: nothing is lost, and nothing is told."""

import json
import shutil
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import archive_cases as cases
import numpy as np
import pytest
from archive_cases import SYNTAXES, UID_ROOT, by_uid, ct, fill, receiver, traces, web_server
from pydicom import dcmread

from synthgen.cli import main
from synthgen.dicom import dimse, query
from synthgen.dicom.archives import Access, archive
from synthgen.dicom.pacs import Pulled, Pushed, pull, push
from synthgen.dicom.write import write_dicom
from synthgen.errors import DataError, EnvironmentProblem, Interrupted, ReleaseRefused, UsageError
from synthgen.images import ImageData
from synthgen.protocols import Run

pytest.importorskip("pynetdicom", reason="the extra pacs is not installed")
pytest.importorskip("dicomweb_client", reason="the extra pacs is not installed")


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory):
    with cases.orthanc(tmp_path_factory.mktemp("orthanc")) as running:
        yield running


@pytest.fixture(autouse=True)
def login(monkeypatch):
    monkeypatch.setenv("SYNTHGEN_PACS_USER", cases.USER)
    monkeypatch.setenv("SYNTHGEN_PACS_PASSWORD", cases.PASSWORD)
    monkeypatch.delenv("SYNTHGEN_PACS_TOKEN", raising=False)


@pytest.fixture
def slept():
    return []


@pytest.fixture
def access(slept):
    return Access(sleep=slept.append, timeout_seconds=5)


# With a real archive


@pytest.mark.parametrize(("there", "study"), [("web", 1), ("dimse", 2)])
def test_objects_come_back_as_they_went(tmp_path, orthanc, there, study):
    folder = fill(tmp_path / "out", *(ct(n, study=study, syntax=SYNTAXES[n % 4]) for n in range(8)))
    assert push(folder, getattr(orthanc, there)) == Pushed(8, 0, 0, {})
    assert push(folder, getattr(orthanc, there)) == Pushed(0, 8, 0, {})
    (tmp_path / "push.jsonl").unlink()
    assert push(folder, getattr(orthanc, there)).sent == 8  # the archive has them, and says they are stored
    sent = by_uid(folder)
    for back in ("web", "dimse"):
        asked = {"StudyInstanceUID": f"{UID_ROOT}.{study}", "Modality": "CT"}
        assert pull(getattr(orthanc, back), asked, tmp_path / back) == Pulled(8, 0, 0)
        assert sorted(p.name for p in (tmp_path / back).iterdir()) == [f"{n:06}.dcm" for n in range(1, 9)]
        came = by_uid(tmp_path / back)
        assert came == sent
        for uid, data in came.items():
            assert data.file_meta.TransferSyntaxUID == sent[uid].file_meta.TransferSyntaxUID
            assert np.array_equal(data.pixel_array, sent[uid].pixel_array)


@pytest.mark.parametrize("compression", ["none", "rle", "jpeg-ls", "jpeg-2000"])
@pytest.mark.parametrize("there", ["web", "dimse"])
def test_an_archive_takes_every_kind_that_is_written(tmp_path, orthanc, there, compression):
    """What `write_dicom` makes of all kinds and compressions goes to Orthanc and comes back with the same pixels."""
    rng = np.random.default_rng(0)
    for kind in ("CT", "MR", "CR", "DX", "MG", "US", "OT"):
        top, shape = (255 if kind == "US" else 4_095), (3, 40, 48) if kind in ("CT", "MR") else (40, 48)
        columns = {"modality": kind, "row_spacing_mm": 0.5, "column_spacing_mm": 0.5, "slice_spacing_mm": 2.0}
        columns |= {"laterality": "L", "view": "CC", "bits": 8 if kind == "US" else 12, "patient": f"{there} {kind}"}
        images = ImageData.of_arrays(
            [rng.integers(0, top, shape).astype("float32")], {k: [v] for k, v in columns.items()}
        )
        write_dicom(
            images, tmp_path / "out" / kind, seed=1, generator=f"{there} {compression}", compression=compression
        )
    sent = push(tmp_path / "out", getattr(orthanc, there))
    assert sent.sent == 3 + 3 + 5
    assert sent.changed == 0
    for kind in ("CT", "MR", "CR", "DX", "MG", "US", "OT"):
        (study,) = {data.StudyInstanceUID for data in by_uid(tmp_path / "out" / kind / "DICOM").values()}
        pull(getattr(orthanc, there), {"StudyInstanceUID": str(study)}, tmp_path / "back" / kind)
        before, after = by_uid(tmp_path / "out" / kind / "DICOM"), by_uid(tmp_path / "back" / kind)
        assert before.keys() == after.keys()
        for uid, data in before.items():
            assert data == after[uid]
            np.testing.assert_array_equal(data.pixel_array, after[uid].pixel_array)


def test_queries_by_attributes_limits_and_what_is_there(tmp_path, orthanc):
    folder = fill(tmp_path / "out", *(ct(n, study=3, PatientID="three-3") for n in range(8)))
    push(fill(tmp_path / "other", ct(1, study=6, PatientID="six-6")), orthanc.web)
    push(folder, orthanc.web)
    for there in (orthanc.web, orthanc.dimse):
        into = tmp_path / there[:4]
        asked = {"PatientID": "three-*", "StudyDate": "20200103-20200103"}
        assert pull(there, asked, into, limit=5) == Pulled(5, 0, 0)
        (into / "000002.dcm").unlink()
        (into / ".000007.part").write_bytes(b"cut off")
        with pytest.raises(UsageError, match="not empty"):
            pull(there, asked, into)
        assert pull(there, asked, into, resume=True) == Pulled(4, 4, 0)
        assert by_uid(into) == by_uid(folder)
        assert not list(into.glob(".*"))
        one = {"SOPInstanceUID": f"{UID_ROOT}.3.1.1", "SeriesNumber": "1"}
        assert pull(there, one, tmp_path / f"one-{there[:4]}").fetched == 1


def test_a_pull_that_is_broken_off_goes_on(tmp_path, orthanc):
    push(fill(tmp_path / "out", *(ct(n, study=8) for n in range(4))), orthanc.web)
    asked = {"StudyInstanceUID": f"{UID_ROOT}.8"}
    for there in (orthanc.web, orthanc.dimse):
        into, told = tmp_path / there[:4], []
        with pytest.raises(Interrupted, match="2 objects fetched; go on with --resume"):
            pull(there, asked, into, run=Run(progress=told.append, stop=lambda told=told: bool(told)))
        assert pull(there, asked, into, resume=True) == Pulled(2, 2, 0)
        assert by_uid(into) == by_uid(tmp_path / "out")
        with pytest.raises(EnvironmentProblem, match="folder 'deep' cannot be used"):
            pull(there, asked, into / "000001.dcm" / "deep")
        (into / "notes").write_text("of others")
        with pytest.raises(UsageError, match="files of others"):
            pull(there, asked, into, resume=True)


def test_nothing_matches(tmp_path, orthanc):
    for there in (orthanc.web, orthanc.dimse):
        with pytest.raises(DataError, match=r"nothing in .* matches") as caught:
            pull(there, {"PatientID": "nobody-here"}, tmp_path / "into")
        assert "nobody" not in str(caught.value)
        assert not (tmp_path / "into").exists()


def test_a_wrong_password_is_said_and_not_shown(tmp_path, orthanc, monkeypatch, caplog):
    caplog.set_level("DEBUG")
    folder = fill(tmp_path / "out", ct(1, study=4))
    monkeypatch.setenv("SYNTHGEN_PACS_PASSWORD", "Wrong-Horse-8")
    for act in (lambda: push(folder, orthanc.web), lambda: pull(orthanc.web, {"Modality": "CT"}, tmp_path / "in")):
        with pytest.raises(EnvironmentProblem, match=r"refuses the login \(HTTP 401\)") as caught:
            act()
        assert not traces(f"{caught.value}{caplog.text}")
        assert "Wrong" not in f"{caught.value}{caplog.text}"


def test_no_identifier_in_logs_messages_journal_or_names(tmp_path, orthanc, caplog, capsys, access):
    caplog.set_level("DEBUG")
    folder = fill(tmp_path / "out", *(ct(n, study=5) for n in range(2)))
    said = []
    for number, there in enumerate((orthanc.web, orthanc.dimse)):
        push(folder, there, access=access)
        pull(there, {"PatientName": "Feather*", "StudyInstanceUID": f"{UID_ROOT}.5"}, tmp_path / str(number))
        said += [path.name for path in (tmp_path / str(number)).iterdir()]
        for wrong in (
            {"PatientID": cases.CANARIES["PatientID"], "StudyDate": "19310217"},
            {"PatientID": "MRN-7731994-QX\\Featherstonehaugh"},
            {"Featherstonehaugh": "1"},
            {"SeriesNumber": "Featherstonehaugh"},
        ):
            with pytest.raises((DataError, UsageError, EnvironmentProblem)) as caught:
                pull(there, wrong, tmp_path / "none", access=access)
            said.append(str(caught.value))
    captured = capsys.readouterr()
    text = (tmp_path / "push.jsonl").read_text()
    assert [set(json.loads(line)) for line in text.splitlines()] == [{"object", "archive"}] * 4
    assert not traces("\n".join([*said, text, caplog.text, captured.out, captured.err]))
    assert str(tmp_path) not in text


# Real patients


def test_real_objects_are_refused(tmp_path):
    folder = fill(tmp_path / "out", ct(1), ct(2, SyntheticData="NO"), ct(3, SyntheticData=None))
    with receiver() as (url, received):
        with pytest.raises(ReleaseRefused, match="2 of 3 objects do not state") as caught:
            push(folder, url)
        assert not received
        assert not traces(str(caught.value))
        assert not (tmp_path / "push.jsonl").exists()
        assert push(folder, url, allow_real=True).sent == len(received) == 3


def test_an_object_that_became_real_since_the_push_began_is_refused(tmp_path):
    folder = fill(tmp_path / "out", ct(1))

    def swap(event):
        if event.stage == "sending":
            fill(folder, ct(1, SyntheticData="NO"))

    with receiver() as (url, received):
        with pytest.raises(ReleaseRefused):
            push(folder, url, run=Run(progress=swap))
        assert not received


def test_what_is_no_object_is_left_out_and_counted(tmp_path):
    folder = fill(tmp_path / "out", ct(1))
    (folder / "notes.dcm").write_text("not DICOM")
    directory = ct(2)
    directory.SOPClassUID = "1.2.840.10008.1.3.10"
    fill(folder / "more", directory, ct(3))
    broken = (folder / "peregrine-0").read_bytes()
    (folder / "broken").write_bytes(broken[:150])
    with receiver() as (url, received):
        done = push(folder, url)
    assert done.sent == len(received) == 2
    assert sum(done.left_out.values()) == 3
    assert {"not a DICOM file", "a DICOMDIR"} <= set(done.left_out)
    with pytest.raises(DataError, match="no DICOM object"):
        push(fill(tmp_path / "empty"), url)
    with receiver() as (url, received):
        zipped = shutil.make_archive(str(tmp_path / "zipped"), "zip", folder)
        assert push(zipped, url, journal_file=tmp_path / "other").sent == len(received) == 2


# Failures, and going on


def test_refused_objects_are_sent_again_and_the_others_are_not(tmp_path, access, slept):
    folder = fill(tmp_path / "out", *(ct(n) for n in range(5)))
    full = [True]
    with receiver(lambda event, received: 0xC123 if full[0] and len(received) >= 3 else 0x0000) as (url, received):
        with pytest.raises(EnvironmentProblem, match=r"2 status C123\. Of 5 objects 3 were sent; push again") as caught:
            push(folder, url, access=access)
        assert caught.value.exit_code == 6
        full[0] = False
        assert push(folder, url, access=access) == Pushed(2, 3, 0, {})
        assert sorted(received) == sorted(by_uid(folder))
    assert not slept


def test_an_archive_that_is_full_for_a_moment(tmp_path, access, slept):
    folder = fill(tmp_path / "out", ct(1), ct(2))
    answers = [0xA700, 0xA701, 0x0000, 0xB000]
    with receiver(lambda *_: answers.pop(0)) as (url, received):
        assert push(folder, url, access=access) == Pushed(2, 0, 1, {})
    assert len(received) == 2
    assert slept == [1, 2]


def test_a_connection_that_is_cut_off_is_made_again(tmp_path, access, slept):
    folder = fill(tmp_path / "out", *(ct(n) for n in range(4)))
    cut = [2]

    def answer(event, received):
        if len(received) == 2 and cut[0]:
            cut[0] -= 1
            event.assoc.abort()
        return 0x0000 if cut[0] == 0 or len(received) < 2 else 0xC000

    with receiver(answer) as (url, received):
        assert push(folder, url, access=replace(access, timeout_seconds=1)).sent == 4
    assert set(received) == set(by_uid(folder))
    assert slept


def test_a_receiver_that_dies_midway(tmp_path, access, slept):
    folder = fill(tmp_path / "out", *(ct(n) for n in range(6)))
    port = cases.free_port()
    url = f"dimse://STORESCP@127.0.0.1:{port}"
    with cases.storescp(tmp_path / "got", port) as process:

        def die(event):
            if event.stage == "sending" and event.done == 3:
                process.kill()
                process.wait()

        with pytest.raises(EnvironmentProblem, match=r"after 5 attempts, 2 not tried\. Of 6 objects 3 were sent"):
            push(folder, url, access=replace(access, timeout_seconds=1), run=Run(progress=die))
    assert slept == [1, 2, 4, 8]
    with cases.storescp(tmp_path / "got", port):
        assert push(folder, url, access=access) == Pushed(3, 3, 0, {})
    came = by_uid(tmp_path / "got")
    assert came == by_uid(folder)


def test_a_push_that_is_killed_goes_on(tmp_path):
    folder = fill(tmp_path / "out", *(ct(n) for n in range(5)))
    script = """
        import os, sys
        from synthgen.dicom.pacs import push
        from synthgen.protocols import Run
        def die(event):
            if event.stage == "sending" and event.done == 3:
                os.kill(os.getpid(), 9)
        push(sys.argv[1], sys.argv[2], run=Run(progress=die))
    """
    with receiver() as (url, received):
        done = subprocess.run([sys.executable, "-c", textwrap.dedent(script), folder, url], capture_output=True)
        assert done.returncode == -9
        journal = tmp_path / "push.jsonl"
        assert len(journal.read_text().splitlines()) == len(received) == 3
        journal.write_bytes(journal.read_bytes()[:-20])  # the last line as a full disk or a crash may leave it
        assert push(folder, url) == Pushed(3, 2, 0, {})
        assert set(received) == set(by_uid(folder))
        assert push(folder, url) == Pushed(0, 5, 0, {})


def test_ctrl_c_between_objects(tmp_path):
    folder = fill(tmp_path / "out", *(ct(n) for n in range(3)))
    with receiver() as (url, received):
        with pytest.raises(Interrupted, match="1 were sent; push again"):
            push(folder, url, run=Run(stop=lambda: len(received) == 1))
        assert push(folder, url) == Pushed(2, 1, 0, {})


def test_the_journal_is_of_one_archive_and_may_lie_elsewhere(tmp_path):
    folder = fill(tmp_path / "out", ct(1))
    journal = tmp_path / "deep" / "journal"
    with receiver() as (one, _), receiver() as (other, received):
        push(folder, one, journal_file=journal)
        assert push(folder, other, journal_file=journal).sent == len(received) == 1
        assert not (tmp_path / "push.jsonl").exists()
        with pytest.raises(EnvironmentProblem, match="cannot be written"):
            push(folder, one, journal_file=folder / "peregrine-0" / "journal")
        (tmp_path / "letter").write_text("Dear Sir,\nthis is no journal\n")
        with pytest.raises(UsageError, match="no journal"):
            push(folder, one, journal_file=tmp_path / "letter")


def test_an_archive_that_is_not_there(tmp_path, access, slept):
    folder = fill(tmp_path / "out", ct(1))
    port = cases.free_port()
    for url in (f"dimse://NONE@127.0.0.1:{port}", f"http://127.0.0.1:{port}/dicom-web"):
        slept.clear()
        with pytest.raises(EnvironmentProblem, match="no connection, after 5 attempts"):
            push(folder, url, access=access)
        assert slept == [1, 2, 4, 8]
        with pytest.raises(EnvironmentProblem, match="no connection, after 5 attempts"):
            pull(url, {"Modality": "CT"}, tmp_path / "in", access=access)


def test_an_archive_that_rejects_us_says_why(tmp_path, access, slept):
    folder = fill(tmp_path / "out", ct(1))
    with (
        receiver(require_calling_aet=["SOMEONE"]) as (url, _),
        pytest.raises(EnvironmentProblem, match="calling ae title not recognised"),
    ):
        push(folder, url, access=access)
    with receiver(require_calling_aet=["SOMEONE"]) as (url, _):
        assert push(folder, url, access=replace(access, calling="SOMEONE")).sent == 1
        with pytest.raises(EnvironmentProblem, match="refuses the query"):  # it is no archive to ask
            pull(url, {"Modality": "CT"}, tmp_path / "in", access=replace(access, calling="SOMEONE"))
    assert not slept


def test_more_kinds_of_objects_than_an_association_can_have(access):
    from pynetdicom import StoragePresentationContexts

    classes = sorted(str(context.abstract_syntax) for context in StoragePresentationContexts)
    kinds = [
        (name, str(syntax)) for name in classes if name.startswith("1.2.840.10008.5.1.4.1.1.") for syntax in SYNTAXES
    ]
    assert len(kinds) > 256
    objects = [ct(n) for n in range(3)]
    for data, kind in zip(objects, (sorted(kinds)[0], sorted(kinds)[-1], sorted(kinds)[1]), strict=True):
        data.SOPClassUID, data.file_meta.TransferSyntaxUID = kind
    with receiver() as (url, received):
        sender = dimse.Sender(archive(url), access, kinds)
        assert [sender.store(data) for data in objects] == [False] * 3
        sender.close()
        assert len(received) == 3


# Web servers with faults


def test_a_busy_web_server_is_tried_again(tmp_path, access, slept):
    folder = fill(tmp_path / "out", ct(1))
    codes = [503, 429, 500]

    def answer(_, instance):
        return (codes.pop(0), "busy") if codes else (200, cases.stored(instance))

    with web_server(answer) as url:
        assert push(folder, url, access=access).sent == 1
        assert slept == [1, 2, 4]
        codes += [503] * 5
        (tmp_path / "push.jsonl").unlink()
        with pytest.raises(EnvironmentProblem, match="1 HTTP 503, after 5 attempts"):
            push(folder, url, access=access)


@pytest.mark.parametrize(
    ("status", "content", "headers", "message"),
    [
        (200, "<html>Please log in, Peregrine</html>", {}, "not confirmed"),
        (200, {}, {}, "not confirmed"),
        (200, cases.stored("1.2.3"), {}, "not confirmed"),
        (302, "", {"Location": "/elsewhere"}, "sends requests on"),
        (404, "Featherstonehaugh", {}, "no DICOMweb service"),
        (413, "too large", {}, "HTTP 413"),
        (409, {"00081198": {"vr": "SQ", "Value": [{"00081197": {"vr": "US", "Value": [49152]}}]}}, {}, "status C000"),
        (202, {"00081198": {"vr": "SQ", "Value": [{"00081197": {"vr": "US", "Value": [290]}}]}}, {}, "status 0122"),
        (
            202,
            {"00081198": {"vr": "SQ", "Value": [{"00081197": {"vr": "US", "Value": [0xA700]}}]}},
            {},
            "resources, aft",
        ),
    ],
)
def test_only_what_a_server_confirms_counts_as_stored(tmp_path, access, status, content, headers, message):
    folder = fill(tmp_path / "out", ct(1))
    with web_server(lambda *_: (status, content, headers)) as url:
        with pytest.raises(EnvironmentProblem, match=message) as caught:
            push(folder, url, access=access)
        assert not traces(str(caught.value))
    assert (tmp_path / "push.jsonl").read_text() == ""


def test_a_token_is_sent_and_never_shown(tmp_path, access, monkeypatch, caplog):
    caplog.set_level("DEBUG")
    folder, seen = fill(tmp_path / "out", ct(1)), []

    def answer(handler, instance):
        seen.append(handler.headers["Authorization"])
        return (200, cases.stored(instance)) if len(seen) < 3 else (403, "")

    (tmp_path / "token").write_text("file-token.x\n")
    with web_server(answer) as url:
        push(folder, url, access=replace(access, token_file=tmp_path / "token"))
        monkeypatch.setenv("SYNTHGEN_PACS_TOKEN", "env-token.x")
        push(fill(tmp_path / "two", ct(2)), url, access=access)
        with pytest.raises(EnvironmentProblem, match="refuses the login") as caught:
            push(fill(tmp_path / "three", ct(3)), url, access=access)
        monkeypatch.setenv("SYNTHGEN_PACS_TOKEN", "env-token.x and more\n")
        with pytest.raises(EnvironmentProblem, match="characters") as worse:
            push(fill(tmp_path / "three", ct(3)), url, access=access)
    assert seen == ["Bearer file-token.x", "Bearer env-token.x", "Bearer env-token.x"]
    assert "token.x" not in f"{caught.value}{worse.value}{caplog.text}{access!r}"


def test_a_server_that_ignores_the_query_or_the_page(tmp_path, access):
    def study(patient, uid):
        return {"00100020": {"vr": "LO", "Value": [patient]}, "0020000D": {"vr": "UI", "Value": [uid]}}

    with (
        web_server(lambda *_: (204, "")) as url,
        pytest.raises(DataError, match="nothing in"),
    ):
        pull(url, {"PatientID": "C"}, tmp_path / "in", access=access)
    with (
        web_server(lambda *_: (400, "no PatientID C here")) as url,
        pytest.raises(EnvironmentProblem, match=r"refuses the query \(HTTP 400\)\. 0"),
    ):
        pull(url, {"PatientID": "C"}, tmp_path / "in", access=access)
    with (
        web_server(lambda *_: (200, [study("A", "1.1"), study("B", "1.2")])) as url,
        pytest.raises(DataError, match="2 answers contradict the query"),
    ):
        pull(url, {"PatientID": "C"}, tmp_path / "in", access=access)


def test_what_contradicts_a_query_is_no_match():
    answers = {
        "study": [
            {"StudyInstanceUID": "1.1", "PatientID": "a", "StudyDate": "20200101"},
            {"StudyInstanceUID": "1.2", "PatientID": "b", "StudyDate": "20200101"},
            {"StudyInstanceUID": "1.3", "PatientID": "A", "StudyDate": "20210101"},
            {"StudyInstanceUID": "1/../../x"},
        ],
        "series": [{"SeriesInstanceUID": "2.1", "Modality": "CT"}, {"SeriesInstanceUID": "2.2", "Modality": "MR"}],
        "instance": [{"SOPInstanceUID": "3.1"}, {"SOPInstanceUID": "3.1"}, {"PatientID": "no UID"}],
    }
    strange = []
    asked = query.validated({"PatientID": "A", "StudyDate": "20200101-20201231", "Modality": "CT"})
    found = list(query.objects(lambda level, _: answers[level], asked, strange=lambda: strange.append(1)))
    assert found == [[query.Object("1.1", "2.1", "3.1", "")]]
    assert len(strange) == 3 + 1 + 1


# TLS


def test_tls(tmp_path, access):
    mine = cases.certificate(tmp_path)
    folder = fill(tmp_path / "out", ct(1))
    trusting = replace(access, ca_file=mine[0])
    known = replace(trusting, certificate=mine[0], key=mine[1])
    with receiver(secure=cases.tls(mine)) as (url, received):
        with pytest.raises(EnvironmentProblem, match="no trusted TLS connection"):
            push(folder, url, access=access)
        assert push(folder, url, access=trusting).sent == 1
        with pytest.raises(EnvironmentProblem, match="no connection"):
            push(fill(tmp_path / "plain", ct(2)), url.replace("+tls", ""), access=replace(access, timeout_seconds=1))
        assert len(received) == 1
    with receiver(secure=cases.tls(mine, mutual=True)) as (url, received):
        with pytest.raises(EnvironmentProblem, match=r"no trusted TLS connection|no connection"):
            push(folder, url, access=replace(trusting, timeout_seconds=1))
        assert push(folder, url, access=known).sent == len(received) == 1
    with web_server(lambda _, instance: (200, cases.stored(instance)), secure=cases.tls(mine)) as url:
        with pytest.raises(EnvironmentProblem, match="no trusted TLS connection"):
            push(folder, url, access=access)
        assert push(folder, url, access=trusting).sent == 1
    (tmp_path / "junk.pem").write_text("junk")
    with pytest.raises(EnvironmentProblem, match="must be PEM files"):
        push(folder, "dimse+tls://A@127.0.0.1:1", access=replace(access, ca_file=tmp_path / "junk.pem"))


# What is wrong in a call


@pytest.mark.parametrize(
    "url",
    [
        "pacs.example",
        "ftp://pacs.example/x",
        "dimse://pacs.example:104",
        "dimse://TITLE@pacs.example",
        "dimse://TITLE@pacs.example:104/x",
        "dimse://SEVENTEEN_LETTERS@pacs.example:104",
        "https://pacs.example/x?token=secret",
        "https://me:secret@pacs.example/x",
        "https://pacs.example:port/x",
        "dimse://A:secret@pacs.example:104",
    ],
)
def test_wrong_urls(url):
    with pytest.raises(UsageError) as caught:
        archive(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"calling": "x" * 17}, "calling AE title"),
        ({"ca_file": "/none/ca.pem"}, "no CA file 'ca.pem'"),
        ({"ca_file": __file__}, "write dimse\\+tls://"),
        ({"attempts": 0}, "at least one attempt"),
    ],
)
def test_wrong_access(tmp_path, changes, message):
    changes = {name: Path(value) if name == "ca_file" else value for name, value in changes.items()}
    with pytest.raises(UsageError, match=message):
        push(fill(tmp_path / "out", ct(1)), "dimse://A@127.0.0.1:1", access=Access(**changes))


@pytest.mark.parametrize("asked", [{}, {"PatientID": "*"}, {"PatientName": ""}, {"patientid": "1"}, {"Rows": "2"}])
def test_wrong_queries(asked):
    with pytest.raises(UsageError):
        query.validated(asked)


@pytest.mark.parametrize("name", ["pynetdicom", "dicomweb_client.web"])
def test_a_missing_extra_is_named(tmp_path, monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    url = "dimse://A@127.0.0.1:1" if name == "pynetdicom" else "http://127.0.0.1:1/x"
    with pytest.raises(EnvironmentProblem, match=r"pip install 'synthgen-health\[pacs\]'"):
        push(fill(tmp_path / "out", ct(1)), url)


# The command line


def run(*arguments):
    with pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in arguments])
    return caught.value.code


def test_push_and_pull_on_the_command_line(tmp_path, orthanc, capsys):
    folder = fill(tmp_path / "out", ct(1, study=7))
    assert run("dicom", "push", folder, "--to", orthanc.web, "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"sent": 1, "already": 0, "changed": 0, "left_out": {}}
    same = ("--query", f"StudyInstanceUID={UID_ROOT}.7", "-o", tmp_path / "in")
    assert run("dicom", "pull", "--from", orthanc.dimse, *same, "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"fetched": 1, "already": 0, "contradictory": 0}
    assert dcmread(tmp_path / "in" / "000001.dcm") == ct(1, study=7)
    assert run("dicom", "pull", "--from", orthanc.web, *same, "--resume") == 0
    assert "0 objects fetched, 1 were there already" in capsys.readouterr().out
    assert run("dicom", "pull", "--from", orthanc.web, *same) == 2
    assert run("dicom", "pull", "--from", orthanc.web, "--query", "Modality=XX", "-o", tmp_path / "none") == 5
    assert run("dicom", "pull", "--from", orthanc.web, "--query", "Modality", "-o", tmp_path / "none") == 2
    real = fill(tmp_path / "real", ct(2, study=7, SyntheticData=None))
    assert run("dicom", "push", real, "--to", orthanc.dimse) == 3
    assert run("dicom", "push", real, "--to", orthanc.dimse, "--allow-real", "--journal", tmp_path / "j") == 0
    assert run("dicom", "push", real, "--to", "dimse://A@127.0.0.1:1", "--allow-real", "--attempts", "1") == 6
    assert not traces(capsys.readouterr().err)
    assert [path.name for path in (tmp_path / "in").iterdir()] == ["000001.dcm"]
