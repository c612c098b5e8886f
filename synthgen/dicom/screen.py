"""Which indexed images cannot be used once their pixels are looked at? The undecodable, and those with text in them."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from synthgen.dicom.header import Header, Reason, Refused
from synthgen.dicom.index import Index
from synthgen.dicom.overlay import suspects_text
from synthgen.dicom.pixels import read_entry
from synthgen.errors import EnvironmentProblem
from synthgen.protocols import Progress, Run

_PATIENTS = 8  # fewer say nothing about what all images have in common
_IMAGES = 24  # that a median is taken of
_MEDIAN_BYTES = 2**28  # held for medians, over all sizes of images


@dataclass
class _Cohort:
    """Images of one size, one for each of the first patients, and the files that are like them."""

    images: dict[str, np.ndarray] = field(default_factory=dict)
    files: list[int] = field(default_factory=list)

    def overlaid(self) -> bool:
        """Whether text stands at the same place in most: it stays sharp in the median, where anatomy blurs."""
        return len(self.images) >= _PATIENTS and suspects_text(np.median(np.stack([*self.images.values()]), axis=0))


def screened(index: Index, *, accept: Collection[Reason] = (), ocr: bool = False, run: Run | None = None) -> Index:
    """The index without files whose pixels cannot be decoded or seem to hold text.

    Every frame is decoded once; the first of each file is searched for text, and so is the median of the images of each
    size, in which only what all have in common stays sharp.

    Args:
        index: as `index` gives it.
        accept: reasons that do not count: "burned-in text" where images were looked at before.
        ocr: search with a text detector, too (extra `ocr`): slower, and it sees faint text.
        run: told of progress.

    Raises:
        EnvironmentProblem: the extra `ocr` is asked for and not installed.
    """
    run, refused, held = run or Run(), dict[int, Reason](), 0
    looks: list[Callable[[np.ndarray], bool]] = [suspects_text, *([_reader()] if ocr else [])]
    cohorts: dict[tuple[object, ...], _Cohort] = {}
    for done, (number, header) in enumerate(index.headers.items()):
        try:
            frames = read_entry(index.entries[number], range(header.frames))
        except Refused as error:
            refused[number] = error.reason
            continue
        if "burned-in text" not in accept:
            if any(look(frames[0]) for look in looks):
                refused[number] = "burned-in text"
            held += _remember(cohorts, number, header, frames[0], held)
        if done % 20 == 0:
            run.progress(Progress("looking at pixels", done, len(index.headers)))
    for cohort in cohorts.values():
        if cohort.overlaid():
            refused.update(dict.fromkeys(cohort.files, "burned-in text"))
    run.progress(Progress("looking at pixels", len(index.headers), len(index.headers)))
    return index.without(refused)


def _remember(
    cohorts: dict[tuple[object, ...], _Cohort], number: int, header: Header, image: np.ndarray, held: int
) -> int:
    """Count an image in, and keep it while there is room. Returns the bytes that it takes."""
    cohort = cohorts.setdefault((header.modality, *image.shape), _Cohort())
    cohort.files.append(number)
    kept = image.astype(np.float16)
    if header.patient in cohort.images or len(cohort.images) >= _IMAGES or held + kept.nbytes > _MEDIAN_BYTES:
        return 0
    cohort.images[header.patient] = kept
    return kept.nbytes


@functools.cache
def _reader() -> Callable[[np.ndarray], bool]:
    """A text detector from a model that comes in its wheel.

    Its engine, onnxruntime, reports its use to its maker from 1.29 on, unless told before it is loaded not to.
    """
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    try:
        import onnxruntime
        from rapidocr import RapidOCR
    except ImportError as error:
        raise EnvironmentProblem("searching for faint text needs: pip install 'synthgen-health[ocr]'") from error
    onnxruntime.disable_telemetry_events()  # where somebody has loaded it before
    logging.getLogger("RapidOCR").disabled = True  # it would log what it reads
    engine: Any = RapidOCR(params={"Global.log_level": "critical"})

    def reads_text(image: np.ndarray) -> bool:
        low, high = np.percentile(image, [0.5, 99.5])
        grey = np.clip((image - low) / max(high - low, 1e-9), 0, 1) * 255
        found = engine(grey.astype(np.uint8), use_cls=False).txts or ()
        return any(len(text.strip()) >= 3 for text in found)

    return reads_text
