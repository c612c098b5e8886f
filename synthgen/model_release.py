"""May a model leave the house with its samples, and what must a stranger know of it? A gate, and a model card.

An audit attacks synthetic data. Of the weights that made them it says nothing, and weights can tell more of a patient
than samples do. Differential privacy alone bounds both, so a model leaves only where it was trained with it, with noise
that nobody can take away, and where it is the very one of the audit.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthgen.errors import ReleaseRefused

if TYPE_CHECKING:
    from synthgen.auditing import Audit

CARD = "MODEL_CARD.md"
MODEL = "model"
MODEL_FILES = (CARD, f"{MODEL}/manifest.json")
MOST_EPSILON = 10.0  # beyond it Ponomareva et al. 2023 (arXiv:2303.00654, section 5.2) call the promise weak


def releasable(audit: Audit, folder: str | Path) -> Mapping[str, Any]:
    """The manifest of a model folder, once it is sure that its weights may go with this audit's data.

    Raises:
        ReleaseRefused: no differential privacy, too weak a one, noise from the seed, or not the model of this audit.
        DataError: no model folder, or one that is broken or was altered.
    """
    from synthgen.generators.checkpoint import load_model, read_manifest

    manifest = read_manifest(folder)
    promised = manifest.get("training", {}).get("privacy")
    if not promised:
        raise ReleaseRefused(
            "the weights stay in the house: the audit attacked the synthetic data, not the model, and this one was "
            "trained without differential privacy, so nothing bounds what its weights tell of a patient"
        )
    if manifest["settings"].get("dp_seeded"):
        raise ReleaseRefused("the weights stay in the house: their noise came from the seed, which the manifest tells")
    if not promised["epsilon"] <= MOST_EPSILON:
        raise ReleaseRefused(
            f"the weights stay in the house: an epsilon of {promised['epsilon']:.3g} promises little, and at most "
            f"{MOST_EPSILON:.3g} is let out"
        )
    if (audit.generator or {}).get("manifest") != manifest["checksum"]:
        raise ReleaseRefused(
            "not the model of this audit: `synthgen run` records which one made the data; two trainings on the same "
            "patients would tell more than one"
        )
    load_model(folder, generator=manifest["generator"])  # the weights are those of the manifest
    return manifest


def write_model(audit: Audit, folder: str | Path, staging: Path) -> None:
    """Put a model that may go, and its card, into a release: manifest and weights, and no other file of its folder.

    Raises:
        ReleaseRefused: it may not go.
        DataError: no model folder, or one that is broken or was altered.
    """
    from synthgen.generators.checkpoint import MANIFEST, WEIGHTS

    manifest = releasable(audit, folder)
    (staging / MODEL).mkdir()
    for name in (MANIFEST, WEIGHTS):
        if (Path(folder) / name).is_file():
            (staging / MODEL / name).write_bytes((Path(folder) / name).read_bytes())
    (staging / CARD).write_text(model_card(audit, manifest), encoding="utf-8", newline="\n")


def model_card(audit: Audit, manifest: Mapping[str, Any]) -> str:
    """A model card in Markdown, whose first words are that weights can leak.

    Source:
        Mitchell et al., Model Cards for Model Reporting, 2019, doi:10.1145/3287560.3287596.
    """
    from synthgen.report.datasheet import FIT, TO_FILL, UNFIT
    from synthgen.report.markdown import escaped, markdown_table

    promised, real = manifest["training"]["privacy"], audit.counts["train"]
    settings = [(name, str(value)) for name, value in manifest["settings"].items() if value is not None]
    lines = [
        f"# Model card of a {escaped(manifest['generator'])} generator",
        "",
        "**Weights can leak what samples do not.** The audit attacked one synthetic table that this model made. It did "
        "not attack the weights, nor anything else that is sampled from them. What protects the patients whom it was "
        "trained on is the promise below, and nothing beyond it.",
        "",
        "## Model",
        "",
        f"It samples tables with the columns of this release: `synthgen sample {MODEL} -n 1000 --seed 1 -o more.csv`. "
        f"Trained by synthgen {escaped(manifest['version'])} on {real['rows']:,} records of {real['patients']:,} "
        "patients.",
        "",
        *markdown_table(("setting", "value"), settings),
        "",
        "## What is promised to each patient",
        "",
        f"- Differential privacy: {escaped(promised['claim'])}. It holds for the weights and for all that is sampled "
        "from them, together.",
        f"- Unit: {escaped(promised['unit'])}.",
        f"- Accountant: {escaped(promised['accountant'])}; noise: {escaped(promised['noise'])}.",
        *(f"- Not covered: {escaped(one)}." for one in promised["not_covered"]),
        "",
        "## Uses",
        "",
        f"Fit for: {FIT}",
        "",
        f"Not fit for: {'; '.join(UNFIT)} What is sampled anew was not audited: audit it before it is shared.",
        "",
        "## Evaluation",
        "",
        "`report.html`, `audit.json` and `DATASHEET.md` judge the released table, which is one draw from this model.",
        "",
        f"Who made it, whom to ask, licence of the model: {TO_FILL}",
    ]
    return "\n".join(lines) + "\n"
