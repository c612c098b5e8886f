"""Commands for DICOM objects: inspect, phantom, push, pull."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from synthgen.cli import options
from synthgen.errors import UsageError

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
    from synthgen.image_output import write_labels
    from synthgen.phantom import phantom as draw

    images = draw(patients, seed=seed, size=size)
    written = write_dicom(images, output, seed=seed, generator="phantom", force=force)
    write_labels(images, output)
    options.say(f"{written.objects:,} objects of {written.patients:,} patients: {output}; findings in labels.csv")


def _access_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that say how an archive is reached; it gets them as one argument, `access`."""
    path = click.Path(path_type=Path)
    given = (
        click.option("--calling", default="SYNTHGEN", show_default=True, help="AE title of this side."),
        click.option("--ca-file", type=path, help="PEM file of the certificates to trust, in place of the system's."),
        click.option("--certificate", type=path, help="PEM file, where the archive asks for one."),
        click.option("--key", type=path, help="PEM file of the certificate's key, where it is apart."),
        click.option("--token-file", type=path, help="File with a bearer token."),
        click.option("--timeout", type=click.FloatRange(min=0.1), default=30.0, show_default=True, help="Seconds."),
        click.option("--attempts", type=click.IntRange(min=1), default=5, show_default=True, help="Of each request."),
    )

    @functools.wraps(command)
    def gathered(*arguments: Any, timeout: float, **values: Any) -> Any:
        from synthgen.dicom.archives import Access

        names = ("calling", "ca_file", "certificate", "key", "token_file", "attempts")
        access = Access(**{name: values.pop(name) for name in names}, timeout_seconds=timeout)
        return command(*arguments, access=access, **values)

    return functools.reduce(lambda wrapped, option: option(wrapped), reversed(given), gathered)


@dicom.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--to", required=True, metavar="URL", help="Of the archive.")
@click.option("--journal", type=click.Path(path_type=Path), help="By default push.jsonl beside FOLDER.")
@click.option("--allow-real", is_flag=True, help="Send objects that do not state that they are synthetic.")
@_access_options
@options.json_option
def push(folder: Path, to: str, journal: Path | None, allow_real: bool, access: Any, as_json: bool) -> None:
    """Send the DICOM objects of FOLDER to an archive, each once.

    URL is https://host/dicom-web, dimse://CALLED_TITLE@host:port or dimse+tls://CALLED_TITLE@host:port. User and
    password of a DICOMweb server come from SYNTHGEN_PACS_USER and SYNTHGEN_PACS_PASSWORD, a bearer token from
    SYNTHGEN_PACS_TOKEN or a file. Objects must have SyntheticData (0008,001C) = YES. What the archive acknowledged is
    noted in a journal of digests: after a failure the same command sends the rest.
    """
    from synthgen.dicom import pacs

    with options.job() as run:
        done = pacs.push(folder, to, access=access, journal_file=journal, allow_real=allow_real, run=run)
    if as_json:
        options.emit(asdict(done))
        return
    options.show(f"{done.sent:,} objects sent, {done.already:,} were there already")
    if done.changed:
        options.show(f"{done.changed:,} of them the archive stored with changes")
    for reason, count in done.left_out.items():
        options.show(f"left out: {count:,} {reason}")


@dicom.command()
@click.option("--from", "source", required=True, metavar="URL", help="Of the archive; see synthgen dicom push.")
@click.option("--query", "query", multiple=True, required=True, metavar="KEYWORD=VALUE", help="Repeatable.")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Folder.")
@click.option("--limit", type=click.IntRange(min=1), help="At most so many objects.")
@click.option("--resume", is_flag=True, help="Go on in a folder that an earlier pull filled in part.")
@_access_options
@options.json_option
def pull(
    source: str, query: tuple[str, ...], output: Path, limit: int | None, resume: bool, access: Any, as_json: bool
) -> None:
    """Fetch the objects of an archive that match a query, as it stores them, into numbered files.

    Such as --query Modality=CT --query StudyDate=20200101-20201231; all must match, * and ? are wildcards. DIMSE
    archives are asked with C-FIND and C-GET, so that no port is opened here. What comes may be real patients: keep it
    in the house. Values on a command line can be read by others on this machine.
    """
    from synthgen.dicom import pacs

    pairs = [text.partition("=") for text in query]
    if not all(keyword.strip() and sign for keyword, sign, _ in pairs):
        raise UsageError("write --query KEYWORD=VALUE, such as --query Modality=CT")
    asked = {keyword.strip(): value for keyword, _, value in pairs}
    if len(asked) < len(pairs):
        raise UsageError("--query names an attribute twice")
    with options.job() as run:
        done = pacs.pull(source, asked, output, access=access, limit=limit, resume=resume, run=run)
    if as_json:
        options.emit(asdict(done))
        return
    options.show(f"{done.fetched:,} objects fetched, {done.already:,} were there already: {output}")
    if done.contradictory:
        options.show(f"{done.contradictory:,} answers contradict the query and were left out")


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
