"""Archives to push to and pull from: Orthanc, dcmtk's storescp, one of pynetdicom, and a web server with faults."""

import contextlib
import http.server
import json
import re
import shutil
import socket
import ssl
import subprocess
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEG2000Lossless, RLELossless

CT = "1.2.840.10008.5.1.4.1.1.2"
SYNTAXES = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless, JPEG2000Lossless)
CANARIES = {
    "PatientID": "MRN-7731994-QX",
    "PatientName": "Featherstonehaugh^Peregrine",
    "PatientBirthDate": "19310217",
    "AccessionNumber": "ACC5559127",
    "StudyDescription": "Thorax of Peregrine F",
}
UID_ROOT = "2.25.31415926535"
USER, PASSWORD = "archivist", "Correct-Horse-7"
PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")


def ct(number, *, study=1, syntax=ExplicitVRLittleEndian, **elements):
    """A small CT slice that says it is synthetic, with canaries in its header."""
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SOPClassUID, data.SOPInstanceUID = CT, f"{UID_ROOT}.{study}.{number % 2}.{number}"
    data.StudyInstanceUID, data.SeriesInstanceUID = f"{UID_ROOT}.{study}", f"{UID_ROOT}.{study}.{number % 2}"
    for keyword, value in CANARIES.items():
        setattr(data, keyword, value)
    data.PatientSex, data.StudyDate, data.StudyTime, data.StudyID = "F", f"2020010{study}", "101500", "1"
    data.Modality, data.SeriesNumber, data.InstanceNumber, data.SyntheticData = "CT", number % 2, number, "YES"
    data.Rows = data.Columns = 64
    data.SamplesPerPixel, data.PhotometricInterpretation, data.PixelRepresentation = 1, "MONOCHROME2", 0
    data.BitsAllocated = data.BitsStored = 16
    data.HighBit = 15
    pixels = np.random.default_rng(number).integers(0, 999, (64, 64), dtype="uint16")
    data.add_new("PixelData", "OW", pixels.tobytes())
    for keyword, value in elements.items():
        setattr(data, keyword, value)
        if value is None:
            delattr(data, keyword)
    if syntax == ImplicitVRLittleEndian:
        data.file_meta.TransferSyntaxUID = syntax
    elif syntax != ExplicitVRLittleEndian:
        data.compress(syntax, generate_instance_uid=False)
    return data


def fill(folder, *objects):
    """Write objects into a folder, under names that tell whose they are."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(objects):
        dcmwrite(folder / f"peregrine-{number}", data, enforce_file_format=True)
    return folder


def by_uid(folder):
    """The objects in a folder."""
    found = [dcmread(path) for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(data.SOPInstanceUID): data for data in found}


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def wait_until(ready, seconds=20):
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end, "it did not start"
        time.sleep(0.05)


def listens(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


@dataclass(frozen=True)
class Orthanc:
    web: str
    dimse: str


@contextlib.contextmanager
def orthanc(folder):
    """A real archive, with a password for DICOMweb."""
    program = shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin")
    if not program or not PLUGIN.exists():
        pytest.skip("Orthanc and its DICOMweb plugin are not installed")
    web, dimse = free_port(), free_port()
    storage = str(folder / "storage")
    settings = {
        "StorageDirectory": storage,
        "IndexDirectory": storage,
        "Plugins": [str(PLUGIN)],
        "HttpPort": web,
        "DicomPort": dimse,
        "DicomAet": "ORTHANC",
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": True,
        "RegisteredUsers": {USER: PASSWORD},
        "DicomAlwaysAllowStore": True,
        "DicomAlwaysAllowFind": True,
        "DicomAlwaysAllowGet": True,
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }
    (folder / "orthanc.json").write_text(json.dumps(settings))
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([program, str(folder / "orthanc.json")], stdout=log, stderr=log, cwd=folder)
    try:
        wait_until(lambda: _answers(web) and listens(dimse))
        yield Orthanc(f"http://127.0.0.1:{web}/dicom-web", f"dimse://ORTHANC@127.0.0.1:{dimse}")
    finally:
        process.kill()
        process.wait()


def _answers(port):
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/system", timeout=1).close()
    except urllib.error.HTTPError as error:
        error.close()
        return error.code == 401
    except OSError:
        return False
    return True


@contextlib.contextmanager
def storescp(folder, port):
    """The receiver of dcmtk."""
    program = shutil.which("storescp")
    if not program:
        pytest.skip("dcmtk's storescp is not installed")
    folder.mkdir(exist_ok=True)
    process = subprocess.Popen([program, "-od", str(folder), "+xa", str(port)])
    try:
        wait_until(lambda: listens(port))
        yield process
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def receiver(answer=lambda event, received: 0x0000, *, secure=None, **settings):
    """A receiver in this process; yields its URL and the UIDs it stored."""
    from pynetdicom import AE, StoragePresentationContexts, evt

    received = []

    def store(event):
        status = answer(event, received)
        if status in (0x0000, 0xB000):
            received.append(str(event.request.AffectedSOPInstanceUID))
        return status

    entity = AE("RECEIVER")
    for keyword, value in settings.items():
        setattr(entity, keyword, value)
    for context in StoragePresentationContexts:
        entity.add_supported_context(context.abstract_syntax, [*SYNTAXES])
    handlers = [(evt.EVT_C_STORE, store)]
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers, ssl_context=secure)
    scheme = "dimse+tls" if secure else "dimse"
    try:
        yield f"{scheme}://RECEIVER@127.0.0.1:{server.server_address[1]}", received
    finally:
        server.shutdown()


@contextlib.contextmanager
def web_server(answer, *, secure=None):
    """A web server that answers as told: `answer(handler, UID or None)` returns status, JSON or text, and headers."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            start = body.index(b"\r\n\r\n") + 4
            data = dcmread(BytesIO(body[start : body.rindex(b"\r\n--")]))
            self.reply(*answer(self, str(data.SOPInstanceUID)))

        def do_GET(self):
            self.reply(*answer(self, None))

        def reply(self, status, content, headers=None):
            text = content if isinstance(content, str) else json.dumps(content)
            kind = "text/html" if isinstance(content, str) else "application/dicom+json"
            self.send_response(status)
            for name, value in {"Content-Type": kind, "Content-Length": len(text), **(headers or {})}.items():
                self.send_header(name, str(value))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if secure:
        server.socket = secure.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield f"{'https' if secure else 'http'}://127.0.0.1:{server.server_address[1]}/dicom-web"
    finally:
        server.shutdown()
        server.server_close()


def stored(instance):
    """What a server answers that stored an object."""
    return {"00081199": {"vr": "SQ", "Value": [{"00081155": {"vr": "UI", "Value": [instance]}}]}}


def certificate(folder):
    """A self-signed certificate of this machine and its key."""
    program = shutil.which("openssl")
    if not program:
        pytest.skip("openssl is not installed")
    made = folder / "certificate.pem", folder / "key.pem"
    command = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=archive -addext subjectAltName=IP:127.0.0.1"
    subprocess.run([program, *command.split(), "-out", made[0], "-keyout", made[1]], check=True, capture_output=True)
    return made


def tls(files, *, mutual=False):
    """The server's side of a TLS connection."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*files)
    if mutual:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(files[0])
    return context


def traces(text):
    """Which canaries, UIDs and secrets a text holds."""
    planted = [*CANARIES.values(), UID_ROOT, "Featherstonehaugh", "peregrine", USER, PASSWORD]
    return [word for word in planted if re.search(re.escape(word), text, re.IGNORECASE)]
