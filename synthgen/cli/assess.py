"""Commands that judge data: audit, validate, compare, release, verify, report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from synthgen.cli import options
from synthgen.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from synthgen.auditing import Audit
    from synthgen.protocols import Run


@click.command()
@options.tables_options
@options.policy_option
@options.ledger_option
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Equal seeds, equal audits.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, help="Folder for audit.json and report."
)
@click.option(
    "--private",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File for the suspicious pairs: numbers of synthetic and train rows. For the data controller alone.",
)
@options.force_option
@options.json_option
@click.pass_context
def audit(
    context: click.Context,
    tables: options.Tables,
    policy: str,
    ledger: Path,
    seed: int,
    output: Path,
    private: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    """Attack and measure a synthetic table or synthetic images, whoever made them, and decide by a policy.

    Each set is a table, or a source of images: a folder, zip or tar of DICOM objects or pictures (labels.csv in a
    folder describes its images), or an .npz in MedMNIST's layout, of which FILE.npz:test names another part.

    Exits with 0 for RELEASE, 3 for REFUSE, 4 for REVIEW.
    """
    from synthgen.report import write

    options.require_absent(output / "audit.json", force=force)
    if private:
        options.require_absent(private, force=force)
        if output.resolve() in private.resolve().parents:
            raise UsageError("--private: name a file outside the audit's folder, which others get to see")
    result = _audit(tables, policy=policy, seed=seed, ledger=ledger, private=private)
    result.save(output)
    report = write(result, output)
    if as_json:
        options.emit(result.to_json())
    else:
        options.show_audit(result)
        options.show(f"report:  {report}")
    context.exit(result.decision.exit_code)


@click.command()
@options.tables_options
@options.policy_option
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Equal seeds, equal figures.")
@options.json_option
def validate(tables: options.Tables, policy: str, seed: int, as_json: bool) -> None:
    """The validators alone: fidelity and utility, without attacks and without a decision."""
    from synthgen.auditing import PRIVACY_FAMILIES

    def wanted(name: str) -> bool:
        return name.split(".")[0] not in PRIVACY_FAMILIES

    result = _audit(tables, policy=policy, seed=seed, only=wanted)
    if as_json:
        options.emit({"findings": result.to_json()["findings"]})
    else:
        options.show_audit(result, decision=False)
        options.say("Fidelity and utility only: no attack was run, and nothing was decided.")


@click.command()
@click.argument("audits", metavar="AUDIT...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="HTML page to write.")
@options.force_option
@options.json_option
def compare(audits: tuple[Path, ...], output: Path | None, force: bool, as_json: bool) -> None:
    """Put audits of one holdout side by side: checks in rows, audits in columns. Nothing is decided.

    Each AUDIT is a folder with an audit.json, or the file; its column is called by its folder. Different policies or
    train data are said; different holdouts cannot be compared.
    """
    from synthgen import comparison
    from synthgen.report import write_comparison

    if output:
        options.require_absent(output, force=force)
    found = comparison.compare(audits)
    if output:
        write_comparison(found, output)
    if as_json:
        options.emit(found.to_json())
    else:
        options.show_comparison(found)
        if output:
            options.show(f"page:    {output}")


@click.command()
@click.argument("audit", type=click.Path(path_type=Path))
@click.option(
    "--data", required=True, type=click.Path(path_type=Path), help="The audited table, images, or folder of a cohort."
)
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Release folder.")
@click.option("--licence", help="Under which the data may be used: a name, or the address of its text.")
@click.option(
    "--sign-key",
    type=click.Path(path_type=Path, dir_okay=False),
    help="PEM file of an Ed25519 private key that signs the checksums (extra sign).",
)
@click.option(
    "--model",
    type=click.Path(path_type=Path),
    help="Model folder to release, too: only of a training with differential privacy, by synthgen run.",
)
@options.unit_option
@options.force_option
def release(
    audit: Path,
    data: Path,
    output: Path,
    licence: str | None,
    sign_key: Path | None,
    model: Path | None,
    unit: Any,
    force: bool,
) -> None:
    """Write a release folder, if the audit's decision was RELEASE and DATA are the audited ones.

    `openssl genpkey -algorithm ed25519 -out key.pem` makes a key for --sign-key, `openssl pkey -in key.pem -pubout
    -out public.pem` its public half, for --public-key of verify. The passphrase of an encrypted key is read from
    SYNTHGEN_SIGN_PASSPHRASE.
    """
    from synthgen import releasing
    from synthgen.auditing import Audit
    from synthgen.cohort import Link
    from synthgen.cohort_io import read_written
    from synthgen.dicom.header import ACCEPTABLE
    from synthgen.image_io import read_images
    from synthgen.io import read

    record = Audit.load(audit)
    made: Any
    if record.modality == "image":
        source, part = _parted(data)
        made = read_images(source, unit=unit, part=part, accept=ACCEPTABLE)  # type: ignore[arg-type]
    elif record.modality == "cohort":
        made = read_written(data, record.schema, Link(), unit=unit)
    else:
        made = read(data, schema=record.schema, partial=True)
    folder = releasing.release(record, made, output, force=force, licence=licence, sign_key=sign_key, model=model)
    options.show(f"release: {folder}")


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--public-key",
    type=click.Path(path_type=Path, dir_okay=False),
    help="PEM file of the publisher's public key: the release must bear its signature (extra sign).",
)
def verify(folder: Path, public_key: Path | None) -> None:
    """Check a release: every checksum, that the decision was RELEASE and, given a public key, the signature."""
    from synthgen import releasing

    releasing.verify(folder, public_key=public_key)
    options.show("every file is as it was released; the decision was RELEASE")
    if public_key:
        options.show("the signature is by the owner of that key")
    elif (folder / releasing.SIGNATURE).exists():
        options.say("it is signed, which was not checked: give the publisher's key as --public-key")


@click.command()
@click.argument("audit", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Folder; by default the audit's.")
@click.option("--open", "open_", is_flag=True, help="Open it in the browser.")
def report(audit: Path, output: Path | None, open_: bool) -> None:
    """Write the report of an audit again, as HTML and Markdown."""
    from synthgen import report as library
    from synthgen.auditing import Audit

    folder = output or (audit if audit.is_dir() else audit.parent)
    path = library.write(Audit.load(audit), folder)
    options.show(f"report:  {path}")
    if open_:
        click.launch(str(path))


def _audit(
    tables: options.Tables,
    *,
    policy: str,
    seed: int,
    only: Callable[[str], bool] | None = None,
    ledger: Path | None = None,
    private: Path | None = None,
) -> Audit:
    from synthgen.auditing import audit as run_audit
    from synthgen.image_io import holds_images

    with options.job() as job:
        train, holdout, synthetic = (_images if holds_images(_parted(tables.train)[0]) else _tables)(tables, job)
        return run_audit(
            train=train,
            holdout=holdout,
            synthetic=synthetic,
            seed=seed,
            policy=policy,
            only=only,
            ledger=ledger,
            private=private,
            run=job,
        )


def _tables(tables: options.Tables, job: Run) -> tuple[Any, Any, Any]:  # noqa: ARG001 - as for images
    from synthgen.io import read

    if tables.labels:
        raise UsageError("--labels is for images")
    encoding, target, patient = tables.encoding, tables.target, tables.patient
    train = read(tables.train, schema=tables.schema, target=target, patient=patient, encoding=encoding, name="train")
    holdout = read(tables.holdout, schema=train.schema, encoding=encoding, name="holdout")
    synthetic = read(tables.synthetic, schema=train.schema, encoding=encoding, partial=True, name="synthetic")
    return train, holdout, synthetic


def _images(tables: options.Tables, job: Run) -> tuple[Any, Any, Any]:
    from synthgen.dicom.header import ACCEPTABLE
    from synthgen.image_io import read_images

    if tables.schema or tables.patient or tables.encoding:
        raise UsageError("--schema, --patient and --encoding are for tables; images have --labels")
    found = []
    for path, labels in ((tables.train, tables.labels), (tables.holdout, tables.labels), (tables.synthetic, None)):
        source, part = _parted(path)
        made = path is tables.synthetic
        found.append(
            read_images(
                source,
                labels=labels,
                target=None if made else tables.target,
                unit=tables.unit,  # type: ignore[arg-type]
                part=part,  # type: ignore[arg-type]
                accept=ACCEPTABLE if made else (),  # each of its objects is audited, whatever it looks like
                run=job,
            )
        )
    return found[0], found[1], found[2]


def _parted(path: Path) -> tuple[Path, str]:
    """A source, and the part of an .npz that is meant."""
    stem, colon, part = str(path).rpartition(":")
    if colon and stem.endswith(".npz") and part in ("train", "val", "test"):
        return Path(stem), part
    return path, "train"
