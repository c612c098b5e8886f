"""What can be seen at a glance? Pictures of an audit, for the report's page and for notebooks."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from difflib import get_close_matches
from typing import TYPE_CHECKING

from synthgen.errors import UsageError
from synthgen.report.content import Figure, paired
from synthgen.report.dots import MOST_ROWS, Dots, dot_plot
from synthgen.report.effort import time_plot, training_plot
from synthgen.report.lines import Look, line_plot, roc_plot
from synthgen.report.overlays import overlays, pair_map
from synthgen.report.picture import Picture, identifier
from synthgen.report.plot import Plot
from synthgen.report.public import public, shown

if TYPE_CHECKING:
    from synthgen.auditing import Audit
    from synthgen.findings import Finding, Measurement

__all__ = ["Picture", "overlays", "pictures", "plot"]

_TITLES = {
    "fidelity.columns": "Columns: how far each distribution is off",
    "fidelity.missingness": "Missing values, column by column",
    "fidelity.pairs": "Pairs of columns: how far relations are off",
    "fidelity.coverage": "Kinds of patients: are all there, and no others?",
    "utility.train_on_synthetic": "Models trained on synthetic data, tested on real patients",
    "utility.estimates": "Coefficients of the declared regressions: how far intervals overlap",
    "utility.survival": "Survival of train, holdout and synthetic patients",
    "structure.rules": "Broken clinical rules",
    "fidelity.detection": "Can a classifier tell synthetic from real?",
    "power": "How small a leak would have been seen?",
    "distance": "Distances of synthetic rows to the nearest train and holdout row",
    "membership": "Who was in the training data? The attacker's hits",
    "images.copies": "How close images come to one patient alone",
    "images.patches": "How close parts of images come to one patient alone",
    "images.membership": "Whose images were in the training data? The attacker's hits",
    "fidelity.image_detection": "Can a network tell synthetic from real?",
    "fidelity.spectrum": "Power by spatial frequency: blur is too little on the right, noise too much",
    "fidelity.intensities": "Pixel values",
    "utility.image_classifier": "Classifiers of images, tested on real patients",
    "subgroups.tables": "Records of groups of patients",
    "subgroups.images": "Images of groups of patients",
}
_DOTTED = frozenset({"fidelity", "utility", "subgroups", "structure"})
_NOT_DOTTED = frozenset({"fidelity.detection", "fidelity.image_detection", "fidelity.features"})  # or in many units
_SUMMARIES = ("worst ", "largest ", "mean ", "mutual ", "groups ", "equalised", "AUC, ")  # or of another unit
_PRIVATE = frozenset({"membership", "copies", "disclosure", "images"})
_COPIED = Look("distance to the nearest patient, as a share of that to the second", "share of the images")
_LOOKS = {  # of curves that are no ROC
    "utility.survival": Look(
        "time, in the unit of its column", "share without the event", shares="y",
        caption="Kaplan-Meier curves, at times between which at least ten events lie.",
    ),
    "power": Look(
        "share of the synthetic rows that are copies", "share of the trials in which they are seen",
        caption="Copies of train patients were planted into this very table, more and more; the curves say how often "
        "the copy test saw them. The farther left they rise, the smaller the leaks that it would have seen.",
        logarithmic=True, shares="xy",
        words={"exact": "exact copies", "noisy": "copies with some noise", "isolated": "copies of isolated patients"},
    ),
    "distance": Look(
        "distance", "share of the synthetic rows within it", shares="y",
        caption="Shown for comparison: distances do not tell safe from unsafe tables.",
    ),
    "images.copies": _COPIED,
    "images.patches": _COPIED,
    "fidelity.spectrum": Look("spatial frequency, cycles per pixel", "power, log10"),
    "fidelity.intensities": Look("pixel value, from the darkest to the brightest", "share of the pixels"),
}  # fmt: skip
_DOT_AXES = {
    "fidelity.columns": "distance from train",
    "fidelity.pairs": "difference from train",
    "subgroups.tables": "mean distance of a column from train",
}


def pictures(audit: Audit) -> tuple[Picture, ...]:
    """All pictures that the audit's figures and curves allow, privacy first; those of single columns are overlays."""
    return tuple(_named(audit).values())


def plot(audit: Audit, name: str, *, column: str | None = None) -> Plot:
    """One of the report's pictures by itself: the same figures, rounded in the same way.

    Args:
        audit: with the checks that were run.
        name: of the check, such as "fidelity.columns", or its last part, "columns".
        column: of "fidelity.columns", the column whose values are shown, synthetic over real.

    Raises:
        UsageError: no picture has that name; the message lists those that this audit has.
    """
    audit = public(audit)
    known = _named(audit)
    if column is not None:
        known = {
            key: replace(panel, title=f"{panel.title}: filled synthetic, line real holdout")
            for key, panel in overlays(audit).items()
        }
        name = column
    found = [key for key in known if name == key] or [key for key in known if name == key.partition(".")[2]]
    if not found:
        near = get_close_matches(name, [*known, *(key.partition(".")[2] for key in known)], n=1)
        hint = f" did you mean {near[0]!r}?" if near else ""
        raise UsageError(f"no picture {name!r}:{hint} this audit has {', '.join(known) or 'none'}")
    if len(found) > 1:
        raise UsageError(f"{name!r} is the end of several names: {', '.join(found)}")
    return Plot(found[0], known[found[0]])


def _named(audit: Audit) -> dict[str, Picture]:
    """Pictures by check, further ones of a check by check and kind."""
    columns, named = {str(column["name"]) for column in audit.columns}, {}
    for finding in audit.findings:
        for number, picture in enumerate(_of(finding, columns)):
            kind = picture.name.removeprefix(identifier(finding.check)).lstrip("-")
            named[f"{finding.check}.{kind}" if number else finding.check] = picture
    others = {"training": training_plot(audit), "time": time_plot(audit)}
    return named | {name: picture for name, picture in others.items() if picture}


def _of(finding: Finding, columns: Collection[str]) -> list[Picture]:
    measurement = finding.measurement
    if measurement is None:
        return []
    title = _TITLES.get(finding.check, shown(finding.question))
    drawn: list[Picture | None] = []
    if finding.family in _DOTTED and finding.check not in _NOT_DOTTED:
        drawn += _dotted(finding, measurement, title, columns)
    if measurement.pairs:
        map_title = "Pairs of columns: which relations are off"
        drawn.append(pair_map(measurement.pairs, name=identifier(finding.check, "map"), title=map_title))
    drawn += _curved(finding, measurement, title)
    return [picture for picture in drawn if picture is not None]


def _dotted(finding: Finding, measurement: Measurement, title: str, columns: Collection[str]) -> list[Picture | None]:
    name = identifier(finding.check)
    if finding.check == "fidelity.missingness":
        return [dot_plot(_rates(measurement, title), name=name)]
    drawn = [_dots(finding, measurement, title, columns)]
    if finding.check == "subgroups.tables":
        drawn.append(_groups(measurement))
    names = [name, f"{name}-models"]
    return [dot_plot(dots, name=n) if len(dots.rows) > 1 else None for dots, n in zip(drawn, names, strict=False)]


def _dots(finding: Finding, measurement: Measurement, title: str, columns: Collection[str]) -> Dots:
    rows, label = paired(measurement.details), shown(measurement.label)
    if finding.check == "utility.estimates":
        prefix = "overlap of intervals, "
        overlaps = [replace(row, name=row.name.removeprefix(prefix)) for row in rows if row.name.startswith(prefix)]
        return Dots(overlaps, title, "overlap with train's interval, of a coefficient", measurement.better)
    if finding.family == "utility":
        metric = label.split(" ")[0]  # that of the statistic; the others have other units
        mark = f"{metric.lower()}, "
        chosen = [replace(r, name=r.name.removeprefix(mark)) for r in rows if r.name.startswith(mark) and r.control]
        label = f"{metric} on real patients, by kind of model"
        return Dots(chosen, title, label, measurement.better, ours="trained on synthetic", real="trained on real")
    if finding.check == "fidelity.coverage":
        label = "shares of rows near those of the other table, and how many times as dense as these they lie"
        return Dots(_beside_train(rows), title, label, "higher", axis="share, or density", real="train instead")
    chosen = _without_summaries(rows, columns)
    single = any(row.control for row in chosen)
    overall = None if single or measurement.control is None else measurement.control.value
    most = 20 if finding.check == "fidelity.pairs" else MOST_ROWS
    axis = _DOT_AXES.get(finding.check, "")
    return Dots(chosen, title, label, measurement.better, axis, most, overall=overall)


def _rates(measurement: Measurement, title: str) -> Dots:
    mark = "missing rate, "
    rows = [row for row in paired(measurement.details) if row.name.startswith(mark)]
    rates = [replace(row, name=row.name.removeprefix(mark)) for row in rows]
    return Dots(rates, title, "share of the rows without a value", "neither")


def _groups(measurement: Measurement) -> Dots:
    """The models of groups of patients: their AUC is no distance."""
    mark = "AUC, "
    rows = [row for row in paired(measurement.details) if row.name.startswith(mark)]
    areas = [replace(row, name=row.name.removeprefix(mark)) for row in rows]
    title, label = "Models for groups of patients, tested on real ones", "AUC on the real patients of a group"
    return Dots(areas, title, label, "higher", ours="trained on synthetic", real="trained on real")


def _beside_train(rows: Sequence[Figure]) -> list[Figure]:
    mark = " (train)"
    real = {row.name.removesuffix(mark): row.estimate for row in rows if row.name.endswith(mark)}
    return [Figure(row.name, row.estimate, real.get(row.name)) for row in rows if not row.name.endswith(mark)]


def _without_summaries(rows: Sequence[Figure], columns: Collection[str]) -> list[Figure]:
    """Figures of single columns or pairs, without the means and maxima over them, which stand in the tables."""
    by_column = [row for row in rows if row.name in columns]
    if by_column:
        return by_column
    return [row for row in rows if not row.name.startswith(_SUMMARIES)]


def _curved(finding: Finding, measurement: Measurement, title: str) -> list[Picture | None]:
    curves = {name: curve for name, curve in measurement.curves.items() if len(curve) > 1}
    rocs = {name: curve for name, curve in curves.items() if "roc" in name.lower()}
    others = {name: curve for name, curve in curves.items() if name not in rocs}
    drawn: list[Picture | None] = []
    if rocs:
        log = finding.family in _PRIVATE
        caption = (
            "Both axes are logarithmic: the lower left shows attackers who accept few false alarms. On the dotted line "
            "they do no better than guessing."
            if log
            else "On the dotted line the classifier does no better than guessing; nearer to it is better."
        )
        drawn.append(roc_plot(rocs, name=identifier(finding.check, "roc"), title=title, caption=caption, log=log))
    if others:
        look = _LOOKS.get(finding.check, Look())
        caption = look.caption or shown(measurement.label)
        name = identifier(finding.check, "curves")
        drawn.append(line_plot(others, name=name, title=title, caption=caption, look=look))
    return drawn
