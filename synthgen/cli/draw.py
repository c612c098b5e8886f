"""Commands that use a trained model: sample, impute."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from synthgen.cli import options
from synthgen.errors import UsageError

if TYPE_CHECKING:
    from synthgen.images import ImageData


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option("-n", "--rows", type=click.IntRange(min=1), help="How many; with --given, as many as its rows.")
@options.seed_option
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    help="CSV, Parquet, Arrow or Excel file; for images a folder.",
)
@click.option("--as", "form", type=click.Choice(["dicom", "png"]), default="dicom", help="Of images.")
@click.option("--modality", help="Of images as DICOM: CT, MR, ..., OT; by default that of train.")
@click.option("--where", multiple=True, metavar="COLUMN=VALUE", help="Hold a column at one value; repeatable.")
@click.option("--given", type=click.Path(path_type=Path), help="Table of known columns, one row per sampled row.")
@click.option("--balance", metavar="COLUMN", help="As many rows of each level; or COLUMN=LEVEL:SHARE,LEVEL:SHARE.")
@click.option("--trust", is_flag=True, help="Load a model that needs pickle (SDV's); only if you made it yourself.")
@options.force_option
def sample(
    model: Path,
    rows: int | None,
    seed: int,
    output: Path,
    form: str,
    modality: str | None,
    where: tuple[str, ...],
    given: Path | None,
    balance: str | None,
    trust: bool,
    force: bool,
) -> None:
    """Sample rows from a model folder, or images, each with its record.

    --where sex=F holds a column at one value (nothing after the sign: missing); --balance died gives each level as many
    rows, and --balance died=0:0.7,1:0.3 these shares. Conditions hold in every row; those that no row can meet are an
    error. What is sampled here was not audited yet: audit it before it leaves the house.
    """
    from synthgen import registry
    from synthgen.data import TableData
    from synthgen.generators import load_generator
    from synthgen.io import read_raw, write

    known = read_raw(given) if given else None
    if rows is None and known is None:
        raise UsageError("say how many rows: -n ROWS (or --given TABLE)")
    loaded = load_generator(model, trust=trust)
    if registry.learns(loaded) == "table":
        options.require_absent(output, force=force)
    count = rows if rows is not None else len(known)  # type: ignore[arg-type]
    synthetic = loaded.sample(count, seed=seed, where=_fixed(where) or None, given=known, **_balanced(loaded, balance))
    options.make_parent(output)
    if isinstance(synthetic, TableData):
        write(synthetic, output)
        options.say(f"{len(synthetic):,} rows: {output}. Not audited yet: see synthgen audit --help")
    else:
        _write_images(synthetic, output, form, modality=modality, seed=seed, generator=loaded.name, force=force)
        options.say(f"{len(synthetic):,} images: {output}. Not audited yet: see synthgen audit --help")


def _write_images(
    images: ImageData, output: Path, form: str, *, modality: str | None, seed: int, generator: str, force: bool
) -> None:
    from synthgen.dicom.write import write_dicom
    from synthgen.image_output import write_labels, write_pictures

    if form == "png":
        write_pictures(images, output)
    else:
        write_dicom(images, output, seed=seed, generator=generator, modality=modality, force=force)
        write_labels(images, output)


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("data", type=click.Path(path_type=Path))
@options.seed_option
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, help="CSV, Parquet, Arrow or Excel file."
)
@click.option("--column", "columns", multiple=True, help="Complete this column only; repeatable.")
@options.encoding_option
@options.force_option
def impute(
    model: Path, data: Path, seed: int, output: Path, columns: tuple[str, ...], encoding: str | None, force: bool
) -> None:
    """Draw the missing cells of DATA by a model; every known cell stays as it is.

    DATA has some or all columns of the training table. The output holds your real patients: it is for analysis in the
    house, never for release. Another seed gives another draw, for multiple imputation.
    """
    from synthgen import registry
    from synthgen.generators import load_generator
    from synthgen.generators.checkpoint import read_manifest
    from synthgen.io import read_raw, write

    options.require_absent(output, force=force)
    name = read_manifest(model)["generator"]
    if not hasattr(registry.find("generators", name), "impute"):
        raise UsageError(f"{name} models cannot impute")
    raw = read_raw(data, encoding=encoding)
    loaded: Any = load_generator(model)
    completed = loaded.impute(raw, seed=seed, columns=columns or None)
    options.make_parent(output)
    write(completed, output)
    options.say(f"{len(completed):,} rows: {output}. These are your real patients: never release them")


def _fixed(where: tuple[str, ...]) -> dict[str, str]:
    """Conditions as text, which the schema turns into values: as YAML, a level 'no' would be a boolean."""
    pairs = [text.partition("=") for text in where]
    if not all(name.strip() and sign for name, sign, _ in pairs):
        raise UsageError("write --where COLUMN=VALUE")
    if len({name.strip() for name, _, _ in pairs}) < len(pairs):
        raise UsageError("--where names a column twice")
    return {name.strip(): value for name, _, value in pairs}


def _balanced(loaded: Any, text: str | None) -> dict[str, Any]:
    """The argument of `sample` that --balance means, if it was given."""
    import inspect

    if text is None:
        return {}
    if "balance" not in inspect.signature(loaded.sample).parameters:
        raise UsageError(f"{loaded.name} models cannot balance")
    name, sign, parts = text.partition("=")
    if not sign:
        return {"balance": name.strip()}
    shares = [part.rpartition(":") for part in parts.split(",")]
    if not all(colon for _, colon, _ in shares):
        raise UsageError("write --balance COLUMN, or --balance COLUMN=LEVEL:SHARE,LEVEL:SHARE")
    return {"balance": {name.strip(): {level.strip(): share for level, _, share in shares}}}
