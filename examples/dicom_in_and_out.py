"""Read DICOM objects with their labels, split by patient, and write images as objects that any archive accepts.

    python examples/dicom_in_and_out.py [FOLDER]

The cohort is a phantom: no patient was imaged. One side of its split stands for the images that a generator would make.
"""

import json
import sys
from pathlib import Path

import synthgen as sg
from synthgen.dicom.index import index
from synthgen.image_output import write_labels
from synthgen.phantom import phantom
from synthgen.validators.dicom import conformance, identifier_search, marks

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "dicom-example")

# a cohort to start from: your own folder in its place
cohort = phantom(40, seed=1)
sg.write_dicom(cohort, folder / "cohort", seed=1, generator="phantom")
labels = write_labels(cohort, folder / "cohort")  # a table with SOPInstanceUID and finding

# what is in it, and what was put aside, and why
found = index(folder / "cohort")
print(found, found.reasons)

# images in physical units, records and labels beside them
images = sg.read_images(folder / "cohort", labels=labels, target="finding")
train, holdout = images.split_by_patient(holdout=0.3, seed=7)
print(f"train: {train}, holdout: {holdout}, an image: {train.read(0).shape}")

# out again: headers from the records alone, compressed without loss
written = sg.write_dicom(holdout, folder / "out", seed=2, generator="example", compression="jpeg-ls")
print(f"written: {written.objects} objects of {written.patients} patients")

# what independent judges say
print(f"errors by the tables of the standard: {conformance(folder / 'out').error_count}")
print(f"objects that do not say that they are synthetic: {marks(folder / 'out').error_count}")
objects = json.loads((folder / "cohort" / "manifest.json").read_text())["objects"]
identifiers = sorted({entry[name] for entry in objects for name in ("patient_id", "sop_instance_uid")})
print(f"identifiers of the cohort in what was written: {len(identifier_search(folder / 'out', identifiers))}")
