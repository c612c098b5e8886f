"""Which words of a header are known to be codes? Only those of the standard: any other might be a name.

Source: DICOM PS3.16 annex L for body parts, as highdicom ships it; PS3.16 CID 4010 and 4014 for views; PS3.3 C.7.3.1
and C.7.6.3 for the others.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from importlib.resources import files
from typing import NamedTuple

from pydicom.sr.coding import Code

PROJECTION_VIEWS = {
    "AP": Code("399348003", "SCT", "antero-posterior"),
    "LL": Code("399173006", "SCT", "left lateral"),
    "PA": Code("272479007", "SCT", "postero-anterior"),
    "RL": Code("399198007", "SCT", "right lateral"),
}
MAMMOGRAPHY = {
    "CC": Code("399162004", "SCT", "cranio-caudal"),
    "FB": Code("399196006", "SCT", "caudo-cranial (from below)"),
    "LM": Code("399352003", "SCT", "latero-medial"),
    "LMO": Code("399099002", "SCT", "latero-medial oblique"),
    "ML": Code("399260004", "SCT", "medio-lateral"),
    "MLO": Code("399368009", "SCT", "medio-lateral oblique"),
    "SIO": Code("399188001", "SCT", "superolateral to inferomedial oblique"),
    "XCCL": Code("399192008", "SCT", "cranio-caudal exaggerated laterally"),
    "XCCM": Code("399101009", "SCT", "cranio-caudal exaggerated medially"),
}
HEADS = frozenset({"HEAD", "BRAIN", "SKULL", "FACE", "HEADNECK"})  # a volume of which may show a face
SEXES = frozenset("FMO")
LATERALITIES = frozenset("LRUB")
_MODALITIES = (
    "AR BI BMD CR CT DG DX ECG EPS ES GM IO IVOCT IVUS KER LEN LS MG MR NM OAM OCT OP OPM OPT OPV OSS OT PT PX RF RG "
    "RTDOSE RTIMAGE SEG SM SMR SRF TG US VA XA XC"
)
MODALITIES = frozenset(_MODALITIES.split())
VIEWS = frozenset({*PROJECTION_VIEWS, "RLD", "LLD", "RLO", "LLO", *MAMMOGRAPHY})
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
