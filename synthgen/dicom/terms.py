"""Which words of a header are known to be codes? Only those of the standard: any other might be a name.

Source: DICOM PS3.16 annex L for body parts, as highdicom ships it; PS3.3 C.7.6.3, C.8.1.1 and C.8.11.5 for the others.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from importlib.resources import files
from typing import NamedTuple

from pydicom.sr.coding import Code

SEXES = frozenset("FMO")
LATERALITIES = frozenset("LRUB")
_VIEWS = "AP PA LL RL RLD LLD RLO LLO CC MLO ML LM LMO XCCL XCCM FB SIO ISO CV AT"
_MODALITIES = (
    "AR BI BMD CR CT DG DX ECG EPS ES GM IO IVOCT IVUS KER LEN LS MG MR NM OAM OCT OP OPM OPT OPV OSS OT PT PX RF RG "
    "RTDOSE RTIMAGE SEG SM SMR SRF TG US VA XA XC"
)
VIEWS, MODALITIES = frozenset(_VIEWS.split()), frozenset(_MODALITIES.split())
PHOTOMETRICS = frozenset({"MONOCHROME1", "MONOCHROME2", "PALETTE COLOR", "RGB", "XYB"}) | {
    f"YBR_{kind}" for kind in ("FULL", "FULL_422", "PARTIAL_420", "PARTIAL_422", "ICT", "RCT")
}


class Region(NamedTuple):
    """A body part."""

    code: Code
    paired: bool


@functools.cache
def body_parts() -> Mapping[str, Region]:
    """Every term that BodyPartExamined may have, and what it means.

    >>> body_parts()["CHEST"].code.meaning, body_parts()["KNEE"].paired, "FEATHERSTONE" in body_parts()
    ('Chest', True, False)
    """
    text = files("highdicom").joinpath("_standard", "anatomic_regions.json").read_text(encoding="utf-8")
    return {
        term: Region(Code(value, scheme, meaning), paired)
        for term, (scheme, value, meaning, paired) in json.loads(text).items()
    }
