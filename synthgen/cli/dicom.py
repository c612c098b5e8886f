"""Commands for DICOM objects: inspect, phantom."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from synthgen.cli import options

if TYPE_CHECKING:
    from synthgen.dicom.index import Index

_SHOWN = 40  # series in the terminal; --json has all


@click.group()
def dicom() -> None:
    """Look at, make, send and fetch DICOM objects."""


@dicom.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.option("--headers-only", is_flag=True, help="Decode no pixels: fast, but text in them is not looked for.")
@click.option("--ocr", is_flag=True, help="Look for faint text, too (extra ocr).")
@click.option("--accept", multiple=True, metavar="REASON", help="Put no file aside for this reason; repeatable.")
@click.option(
    "--contact-sheet",
    type=click.Path(path_type=Path),
    help="PNG of one image of each series. It shows patients: keep it in the house.",
)
@click.option(
    "--put-aside",
    type=click.Path(path_type=Path),
    help="CSV of the files that were put aside, by name, and why. Names may identify patients: keep it in the house.",
)
@options.json_option
@options.force_option
def inspect(
    source: Path,
    headers_only: bool,
    ocr: bool,
    accept: tuple[str, ...],
    contact_sheet: Path | None,
    put_aside: Path | None,
    as_json: bool,
    force: bool,
) -> None:
    """Show what a folder, DICOMDIR, zip or tar of DICOM objects holds, and what cannot be learned from, and why.

    Nothing that identifies a patient is shown: files, patients and series have numbers.
    """
    from synthgen.dicom.index import index
    from synthgen.dicom.screen import screened
    from synthgen.dicom.summary import summary

    for path in (contact_sheet, put_aside):
        if path:
            options.require_absent(path, force=force)
    with options.job() as run:
        found = index(source, accept=accept, run=run)  # type: ignore[arg-type]
        if not headers_only:
            found = screened(found, accept=accept, ocr=ocr, run=run)  # type: ignore[arg-type]
    facts = summary(found)
    if contact_sheet:
        _write_contact_sheet(found, contact_sheet)
    if put_aside:
        _write_put_aside(found, put_aside)
    if as_json:
        options.emit(facts)
    else:
        _show(facts)


@dicom.command()
@click.option("-n", "--patients", type=click.IntRange(min=1), default=200, show_default=True, help="How many.")
@click.option("--size", type=click.IntRange(min=32), default=64, show_default=True, help="Pixels on a side.")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Folder.")
@options.seed_option
@options.force_option
def phantom(patients: int, size: int, output: Path, seed: int, force: bool) -> None:
    """Write a procedural cohort of chest-like radiographs as DICOM objects, with labels beside them.

    Nothing in it is learned from a patient: it is for trying things out, and for tests.
    """
    from synthgen.dicom.write import write_dicom
    from synthgen.phantom import phantom as draw
    from synthgen.phantom import write_labels

    images = draw(patients, seed=seed, size=size)
    written = write_dicom(images, output, seed=seed, generator="phantom", force=force)
    write_labels(images, output)
    options.say(f"{written.objects:,} objects of {written.patients:,} patients: {output}; findings in labels.csv")


def _show(facts: dict[str, Any]) -> None:
    series = facts["series"]
    totals = ("files", "images", "patients", "studies")
    options.show("  ".join(f"{facts[name]:,} {name}" for name in totals) + f"  {len(series):,} series\n")
    headings = ("series", "patient", "modality", "images", "size", "bits", "spacing mm", "geometry", "body part")
    keys = ("number", "patient", "modality", "images", "size", "bits", "spacing_mm", "geometry", "body_part")
    options.show_rows(headings, [tuple(str(row[key]) for key in keys) for row in series[:_SHOWN]])
    if len(series) > _SHOWN:
        options.show(f"and {len(series) - _SHOWN:,} more: --json shows all")
    for title in ("modalities", "transfer_syntaxes", "put_aside"):
        counts = ", ".join(f"{name} {count:,}" for name, count in facts[title].items())
        options.show(f"\n{title.replace('_', ' ')}: {counts or 'none'}")
    if facts["may_show_a_face"]:
        options.show(f"\n{facts['may_show_a_face']} volumes of heads: a face could be rendered from them")


def _write_contact_sheet(found: Index, path: Path) -> None:
    from PIL import Image

    from synthgen.dicom.summary import contact_sheet

    options.make_parent(path)
    Image.fromarray(contact_sheet(found)).save(path, format="PNG")
    options.say(f"contact sheet, which shows patients: {path}")


def _write_put_aside(found: Index, path: Path) -> None:
    import csv

    options.make_parent(path)
    with path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "reason"])
        writer.writerows([found.entries[number].name, reason] for number, reason in found.quarantine.items())
    options.say(f"files put aside, by name: {path}")
