"""Commands that show: schema, list, describe, doctor, config-schema."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from synthgen.cli import options
from synthgen.errors import EnvironmentProblem, UsageError, suggest


@click.group()
def schema() -> None:
    """Infer what the columns of a table are."""


@schema.command()
@click.argument("data", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Schema file; by default stdout.")
@click.option("--levels", multiple=True, metavar="COLUMN", help="Write the observed levels of this column; repeatable.")
@click.option("--bounds", multiple=True, metavar="COLUMN", help="Write the observed bounds of this column; repeatable.")
@options.encoding_option
@options.force_option
def infer(
    data: Path, output: Path | None, levels: tuple[str, ...], bounds: tuple[str, ...], encoding: str | None, force: bool
) -> None:
    """Write a commented schema of DATA for you to correct.

    Observed levels and extremes are patients' values: they are written only for columns that you name.
    """
    from synthgen.cli.run import _write_text
    from synthgen.infer import canonical_table, infer_schema, with_observed
    from synthgen.io import read_raw
    from synthgen.schema import schema_yaml

    if output:
        options.require_absent(output, force=force)
    raw = read_raw(data, encoding=encoding)
    inferred, remarks = infer_schema(raw)
    table = canonical_table(raw, inferred, name=data.name)
    text = schema_yaml(with_observed(inferred, table, levels=levels, bounds=bounds), comments=remarks)
    if output is None:
        options.show(text.rstrip())
        return
    _write_text(output, text)
    options.say(
        f"schema of {len(inferred.columns)} columns: {output}. Read it: roles and kinds decide what is protected."
    )


@click.command("list")
@click.argument("what", type=click.Choice(["generators", "checks", "policies", "datasets"]))
@options.json_option
def list_(what: str, as_json: bool) -> None:
    """List generators, checks, policies or data sets."""
    rows = _listed(what)
    if as_json:
        options.emit({what: [{"name": name, "about": about, "licence": licence} for name, about, licence in rows]})
        return
    options.show_rows(("name", "about", "licence"), rows)


@click.command()
@click.argument("name")
def describe(name: str) -> None:
    """Explain a generator, a check, a policy or a data set by its name."""
    from synthgen import registry
    from synthgen.datasets import DATASETS
    from synthgen.policy import policy_text, shipped_policies

    if name in registry.names("generators"):
        options.show(_describe_generator(name))
    elif name in registry.names("checks"):
        options.show(_describe_check(name))
    elif name in shipped_policies():
        options.show(policy_text(name).rstrip())
    elif name in DATASETS:
        entry = DATASETS[name]
        options.show(f"{entry.title}\n\nshipped by {entry.package}, licence {entry.licence}\nsource: {entry.source}")
    elif name == "phantom":
        from synthgen.phantom import phantom

        options.show(_explained(phantom))
    else:
        known = [*registry.names("generators"), *registry.names("checks"), *shipped_policies(), *DATASETS, "phantom"]
        raise UsageError(f"nothing is named {name!r}: {suggest(name, known)}")


_EXTRAS = {
    "sdv": ": pip install 'synthgen-health[sdv]' adds sdv-ctgan, sdv-tvae, sdv-copula",
    "accelerate": ": pip install 'synthgen-health[track]' adds training on several GPUs, and trackers",
    "pynetdicom": ": pip install 'synthgen-health[pacs]' adds push to and pull from DICOM archives",
    "rapidocr": ": pip install 'synthgen-health[ocr]' adds a detector of faint text in pixels",
    "opacus": ": pip install 'synthgen-health[dp]' adds training with differential privacy",
    "cryptography": ": pip install 'synthgen-health[sign]' adds signed releases",
    "mlcroissant": ": pip install 'synthgen-health[cards]' validates and loads the croissant.json of a release",
    "codecarbon": ": pip install 'synthgen-health[energy]' adds the energy of a training to cost.json",
}


@click.command()
@options.json_option
def doctor(as_json: bool) -> None:
    """Show versions, devices and extras, and what each extra would enable."""
    import os
    import platform
    import shutil
    from importlib.metadata import PackageNotFoundError, version

    import torch

    packages = (
        "synthgen-health",
        "torch",
        "monai",
        "pydicom",
        "python-gdcm",
        "pylibjpeg-openjpeg",
        "pylibjpeg-rle",
        "pyjpegls",
        "highdicom",
        "scikit-learn",
        *_EXTRAS,
        "pandas",
        "polars",
        "numpy",
        "click",
    )
    facts = {"python": platform.python_version(), "cores": str(os.cpu_count())}
    facts["cuda"] = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none: training runs on the CPU"
    facts["free disk here"] = f"{shutil.disk_usage('.').free / 1e9:.0f} GB"
    for package in packages:
        try:
            facts[package] = version(package)
        except PackageNotFoundError:
            facts[package] = "absent" + _EXTRAS.get(package, "")
    if as_json:
        options.emit(facts)
    else:
        options.show_rows(("what", "found"), list(facts.items()))


@click.command("config-schema")
def config_schema() -> None:
    """Print the JSON Schema of study.yaml."""
    from synthgen.config import Study

    options.emit(Study.model_json_schema(by_alias=True))


def _listed(what: str) -> list[tuple[str, str, str]]:
    from synthgen import registry
    from synthgen.datasets import DATASETS
    from synthgen.policy import load_policy, shipped_policies

    if what == "policies":
        return [(name, load_policy(name).description, "Apache-2.0") for name in shipped_policies()]
    if what == "datasets":
        tables = [(name, entry.title, entry.licence) for name, entry in DATASETS.items()]
        return [*tables, ("phantom", "chest-like radiographs, drawn: synthgen dicom phantom -o FOLDER", "Apache-2.0")]
    if what == "checks":
        return [(name, _about(name), registry.licence("checks", name)) for name in registry.names("checks")]
    return [(name, *_about_generator(name)) for name in registry.names("generators")]


def _about(check: str) -> str:
    """The question of a check, or what is wrong with the plug-in: one broken package hides no other."""
    from synthgen import registry

    try:
        return str(registry.create("checks", check).question)
    except EnvironmentProblem as problem:
        return str(problem)


def _about_generator(name: str) -> tuple[str, str]:
    """What a generator is and its licence, or what is wrong with the plug-in."""
    from synthgen import registry

    try:
        kind = registry.find("generators", name)
    except EnvironmentProblem as problem:
        return str(problem), ""
    return _first_line(kind), kind.licence


def _describe_generator(name: str) -> str:
    import dataclasses

    from synthgen import registry

    kind = registry.find("generators", name)
    settings = [f for f in dataclasses.fields(kind) if f.init]
    remarks = _remarks(kind)
    lines = [f"  {f'{f.name} = {f.default!r}':<32} {remarks.get(f.name, '')}".rstrip() for f in settings]
    head = f"{_explained(kind)}\n\nlicence: {kind.licence}"
    return head + ("\nsettings (--set KEY=VALUE):\n" + "\n".join(lines) if lines else "\nno settings")


def _explained(kind: Any) -> str:
    """A docstring without its executed examples."""
    import inspect

    return (inspect.getdoc(kind) or "").partition("\n>>> ")[0].rstrip()


def _remarks(kind: type) -> dict[str, str]:
    """The comment beside each setting in the source, where the style of this code base explains settings."""
    import inspect
    import re

    found: dict[str, str] = {}
    for cls in reversed(kind.__mro__[:-1]):
        found.update(re.findall(r"^    (\w+): .*?  # (.+)$", inspect.getsource(cls), re.M))
    return found


def _describe_check(name: str) -> str:
    from synthgen import registry
    from synthgen.policy import load_policy, shipped_policies

    check = registry.create("checks", name)
    parts = [check.question, _explained(type(check)), f"needs: {', '.join(sorted(check.needs))}"]
    for policy in map(load_policy, shipped_policies()):
        threshold = {**policy.checks, **policy.images}.get(name)
        if threshold is not None:
            parts.append(f"policy {policy.name}: {threshold.words('lower') or 'no limit'}\n  {threshold.why}")
    return "\n\n".join(parts)


def _first_line(kind: type) -> str:
    import inspect

    return (inspect.getdoc(kind) or "").split("\n")[0]
