"""How fast, how robust and how conformant is DICOM in and out? Prints tables.

    python benchmarks/dicom.py --record

Speed: each job runs in a process of its own, which tells its time and its peak memory. Reading: a directory of real CT
slices, beside MONAI's PydicomReader and plain pydicom. Robustness: every test file of pydicom and of the package
pydicom-data, by itself; "failed" is an exception that is no refusal with a reason. Conformance: small synthetic images
of every kind and compression, before judges that share no code with the writer (dciodvfy, dcentvfy and dcmftest are
Debian's dicom3tools and dcmtk). The one line of dciodvfy on SyntheticData, which its dictionary does not know, is not
counted.
"""

from __future__ import annotations

import argparse
import collections
import importlib.util
import itertools
import json
import logging
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pydicom.data
from pydicom import dcmread
from tables import HERE, Row, machine, markdown, record

from synthgen.dicom.header import ACCEPTABLE, Refused, quiet
from synthgen.dicom.index import index
from synthgen.dicom.pixels import DicomPixels, read_entry
from synthgen.dicom.write import write_dicom
from synthgen.errors import SynthgenError
from synthgen.images import ImageData
from synthgen.validators import dicom as judges

SLICES = HERE.parent.parent / "shared" / "data" / "dicom" / "ct_colon"
FILES = {"pydicom": Path(pydicom.data.__file__).parent / "test_files"}
COMPRESSIONS = ("none", "rle", "jpeg-ls", "jpeg-2000")
KINDS = {"CT": "CHEST", "MR": "BRAIN", "CR": "CHEST", "DX": "CHEST", "MG": "BREAST", "US": "ABDOMEN", "OT": "CHEST"}


def many(folder: Path, copies: int) -> None:
    """So many instances: real slices, each with a UID of its own."""
    sources = sorted(path for path in SLICES.rglob("*") if path.is_file())
    for i, path in zip(range(copies), itertools.cycle(sources)):
        data = dcmread(path)
        data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = f"1.2.826.0.1.3680043.9.7777.{i}"
        data.PixelData = data.PixelData[: data.Rows * 2] * data.Rows  # one line, over and over: the disk matters less
        (folder / f"{i // 1000}").mkdir(exist_ok=True)
        data.save_as(folder / f"{i // 1000}" / f"{i}")


def synthetic_slices(count: int, *, side: int = 512) -> ImageData:
    """A volume as smooth and as noisy as a CT."""
    rng = np.random.default_rng(0)
    x, y = np.meshgrid(np.linspace(-1, 1, side), np.linspace(-1, 1, side))
    body = np.where(x**2 + y**2 < 0.8, 40.0, -1000.0)
    volume = np.stack([body + rng.normal(0, 20, body.shape) for _ in range(10)]).astype("float32")
    volumes = [volume] * (count // 10)
    spacing = dict.fromkeys(("row_spacing_mm", "column_spacing_mm", "slice_spacing_mm"), [0.8] * len(volumes))
    names = {"patient": [str(i) for i in range(len(volumes))], "modality": ["CT"] * len(volumes)}
    return ImageData.of_arrays(volumes, {**names, "body_part": ["CHEST"] * len(volumes), **spacing})


def job_index(folder: Path) -> str:
    found = index(folder)
    return f"{len(found.headers):,} images in {len(found.series):,} series"


def job_read(_: Path) -> str:
    found = index(SLICES)
    volume = DicomPixels(found.entries, [found.series[0].slices], volumes=True).read(0)
    return f"{volume.shape}, {volume.min():.0f} to {volume.max():.0f} HU"


def job_read_monai(_: Path) -> str:
    from monai.data import PydicomReader

    reader = PydicomReader()
    volume, _ = reader.get_data(reader.read(SLICES))
    return f"{volume.shape}, {volume.min():.0f} to {volume.max():.0f}"


def job_read_pydicom(_: Path) -> str:
    volume = np.stack([dcmread(path).pixel_array for path in sorted(SLICES.rglob("*.dcm"))])
    return f"{volume.shape}, stored values {volume.min()} to {volume.max()}"


def job_write(folder: Path, compression: str = "none") -> str:
    written = write_dicom(synthetic_slices(1_000), folder / "out", seed=1, generator="noise", compression=compression)
    size = sum(path.stat().st_size for path in (folder / "out").rglob("*") if path.is_file())
    return f"{written.objects:,} objects, {size / 2**20:,.0f} MiB"


JOBS: dict[str, Callable[[Path], str]] = {
    "index 10,000 CT slices": job_index,
    "read 100 CT slices, 512 x 512": job_read,
    "read 100 CT slices: MONAI PydicomReader": job_read_monai,
    "read 100 CT slices: pydicom": job_read_pydicom,
    "write 1,000 CT slices, 512 x 512": job_write,
    "write 1,000 CT slices, RLE": lambda folder: job_write(folder, "rle"),
    "write 1,000 CT slices, JPEG-LS": lambda folder: job_write(folder, "jpeg-ls"),
    "write 1,000 CT slices, JPEG 2000": lambda folder: job_write(folder, "jpeg-2000"),
}


def speed() -> list[Row]:
    rows = []
    for name in JOBS:
        with tempfile.TemporaryDirectory() as folder:
            if name.startswith("index"):
                many(Path(folder), 10_000)
            done = subprocess.run(
                [sys.executable, __file__, "--job", name, "--folder", folder],
                capture_output=True,
                text=True,
                check=True,
            )
        told = json.loads(done.stdout.splitlines()[-1])
        rows.append((name, f"{told['seconds']:.1f}", f"{told['mib']:.0f}", told["said"]))
        print(" | ".join(rows[-1]), flush=True)
    return rows


def robustness() -> list[Row]:
    data_store = importlib.util.find_spec("data_store")
    sources = dict(FILES)
    if data_store and data_store.submodule_search_locations:
        sources["pydicom-data"] = Path(data_store.submodule_search_locations[0])
    rows = []
    for name, folder in sources.items():
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        outcome, reasons = collections.Counter[str](), collections.Counter[str]()
        for path in files:
            try:
                found = index(path, accept=ACCEPTABLE)
                if [entry.name for entry in found.entries] != [path.name]:
                    reasons["a DICOMDIR"] += 1
                    continue
                reasons.update(found.quarantine.values())
                for number in found.headers:
                    read_entry(found.entries[number], [0])
                outcome["decoded"] += bool(found.headers)
            except Refused as refused:
                reasons[refused.reason] += 1
            except SynthgenError:
                reasons["no image"] += 1
            except Exception:
                outcome["failed"] += 1
        ours = (outcome["decoded"], len(files) - outcome["decoded"] - outcome["failed"], outcome["failed"])
        said = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
        rows.append((f"{name}, synthgen", *(str(n) for n in (len(files), *ours)), said))
        rows.append((f"{name}, MONAI PydicomReader", str(len(files)), *_monai(folder), "none given"))
    return rows


def _monai(folder: Path) -> tuple[str, str, str]:
    """Files that it reads, and exceptions: it refuses none."""
    from monai.data import PydicomReader

    outcome = collections.Counter[bool]()
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            reader = PydicomReader()
            try:
                reader.get_data(reader.read(path))
                outcome[True] += 1
            except Exception:
                outcome[False] += 1
    return str(outcome[True]), "-", str(outcome[False])


def conformance() -> list[Row]:
    rows = []
    for kind, compression in itertools.product(KINDS, COMPRESSIONS):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name) / "out"
            write_dicom(_of_kind(kind), folder, seed=1, generator="noise", compression=compression)  # type: ignore[arg-type]
            told = [judges.conformance(folder), judges.marks(folder)]
            for program in ("dciodvfy", "dcentvfy", "dcmftest"):
                told.append(getattr(judges, program)(folder) if shutil.which(program) else None)
            errors = [str(one.error_count) if one else "not installed" for one in told]
            rows.append((kind, compression, str(told[0].objects), *errors))
    return rows


def _of_kind(kind: str) -> ImageData:
    """Two patients; a volume each where the kind holds volumes."""
    rng = np.random.default_rng(0)
    top, deep = (255, 8) if kind == "US" else (4_095, 12)
    shape = (4, 48, 64) if kind in ("CT", "MR") else (48, 64)
    images = [rng.integers(0, top, shape).astype("float32") for _ in range(4)]
    columns = {"modality": kind, "body_part": KINDS[kind], "bits": deep, "slice_spacing_mm": 2.0}
    columns |= {"row_spacing_mm": 0.5, "column_spacing_mm": 0.6, "view": "MLO" if kind == "MG" else "PA"}
    columns |= {"laterality": "L"} if kind == "MG" else {}
    people = {"patient": list("aabb"), "study": list("1212"), "sex": list("FFMM"), "age_years": [40, 43, 70, 70]}
    return ImageData.of_arrays(images, {**people, **{name: [value] * 4 for name, value in columns.items()}})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--job", choices=list(JOBS), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--record", action="store_true", help="write the tables into RESULTS.md")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    if arguments.job:
        started = time.perf_counter()
        said = JOBS[arguments.job](arguments.folder)
        facts = {"seconds": time.perf_counter() - started, "said": said}
        facts["mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps(facts))
        return
    packages = ("pydicom", "python-gdcm", "pylibjpeg-openjpeg", "pylibjpeg-rle", "pyjpegls", "highdicom", "monai")
    about = f"{machine()}, " + ", ".join(f"{package} {version(package)}" for package in packages) + "."
    tables = {
        "Speed": (("job", "seconds", "peak MiB", "result"), speed()),
        "Robustness": (("files of", "files", "decoded", "refused with a reason", "failed", "reasons"), robustness()),
        "Errors of judges": (
            ("kind", "compression", "objects", "highdicom's tables", "marks", "dciodvfy", "dcentvfy", "dcmftest"),
            conformance(),
        ),
    }
    body = "\n\n".join(f"**{title}**\n\n{markdown(rows, head)}" for title, (head, rows) in tables.items())
    print(f"{about}\n\n{body}")
    if arguments.record:
        record("DICOM", f"{about}\n\n{body}")


if __name__ == "__main__":
    main()
