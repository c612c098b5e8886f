"""What is a study? The validated content of study.yaml, with `--set` overrides and a JSON Schema."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from synthgen.errors import ConfigError, UsageError, suggest


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, strict=False)


class DataSection(_Section):
    """Where the patient records are."""

    table: Annotated[str, Field(description="CSV, TSV, Parquet, Arrow or Excel file, relative to this file")]
    table_schema: Annotated[
        str | None, Field(alias="schema", description="schema file; inferred when absent (see: synthgen schema infer)")
    ] = None
    target: Annotated[str | None, Field(description="column that a model would predict; utility needs it")] = None
    patient: Annotated[str | None, Field(description="column whose equal values are one patient")] = None
    encoding: Annotated[str | None, Field(description="of a text file that is not UTF-8, such as latin-1")] = None


class SplitSection(_Section):
    """How the holdout is set aside."""

    holdout: Annotated[float, Field(gt=0, lt=1, description="share of patients that no generator ever sees")] = 0.3


class GeneratorSection(_Section):
    """Which generator learns, and its settings."""

    name: Annotated[str, Field(description="see: synthgen list generators")] = "diffusion"
    settings: Annotated[dict[str, Any], Field(description="see: synthgen describe NAME")] = {}


class SampleSection(_Section):
    """What is sampled."""

    rows: Annotated[int | None, Field(gt=0, description="by default as many as there are train rows")] = None
    where: Annotated[dict[str, Any], Field(description="columns held at one value in every row")] = {}


class Study(_Section):
    """The whole job: read, split, fit, sample, audit, decide, release."""

    data: DataSection
    split: SplitSection = SplitSection()
    generator: GeneratorSection = GeneratorSection()
    sample: SampleSection = SampleSection()
    policy: Annotated[str, Field(description="a shipped policy or a file (see: synthgen list policies)")] = (
        "research-share"
    )
    licence: Annotated[str | None, Field(description="under which the release may be used, for its datasheet")] = None
    seed: Annotated[int, Field(ge=0, description="equal seeds and steps give equal bytes")] = 0

    def resolved(self) -> dict[str, Any]:
        """Plain data with every default filled in; of files only the name, never where they lie."""
        data = self.model_dump(by_alias=True)
        for key in ("table", "schema"):
            if data["data"][key]:
                data["data"][key] = Path(data["data"][key]).name
        data["policy"] = Path(data["policy"]).name
        return data

    def hash(self) -> str:
        """SHA-256 of the resolved study, so that a resumed run can tell whether it is the same study."""
        return hashlib.sha256(json.dumps(self.resolved(), sort_keys=True).encode()).hexdigest()


def load_study(path: str | Path, *, overrides: Sequence[str] = ()) -> Study:
    """Read study.yaml and apply `a.b=c` overrides; paths in it are taken relative to the file.

    Raises:
        ConfigError: no such file, not YAML, or a key or value that a study does not have.
        UsageError: an override that is not of the form a.b=c.
    """
    import yaml

    path = Path(path)
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the study file {path.name!r}: {type(error).__name__}") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise ConfigError(f"{path.name!r} is not YAML" + (f" at line {mark.line + 1}" if mark else "")) from error
    if not isinstance(data, dict):
        raise ConfigError(f"{path.name!r} is not a mapping of: {', '.join(Study.model_fields)}")
    data = {key: value for key, value in data.items() if value is not None}  # a section with every line commented out
    for override in overrides:
        _override(data, override)
    study = study_from_mapping(data, source=path.name)
    return _relative_to(study, path.parent)


def study_from_mapping(data: Mapping[str, Any], *, source: str = "the study") -> Study:
    """Validate plain data as a study.

    >>> study_from_mapping({"data": {"table": "patients.csv"}}).generator.name
    'diffusion'
    >>> study_from_mapping({"data": {"tabel": "patients.csv"}})
    Traceback (most recent call last):
    synthgen.errors.ConfigError: the study: data has no key 'tabel': did you mean 'table'?
    """
    try:
        return Study.model_validate(data)
    except ValidationError as error:
        raise ConfigError(f"{source}: " + _first_problem(error)) from None


def parse_setting(text: str) -> tuple[str, Any]:
    """Split `key=value`; the value is read as YAML, so numbers, booleans and lists keep their type.

    >>> parse_setting("max_seconds=60")
    ('max_seconds', 60)

    Raises:
        UsageError: no equals sign.
    """
    import yaml

    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise UsageError(f"write KEY=VALUE, not {key!r}")
    try:
        return key.strip(), yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise UsageError(f"the value of {key.strip()!r} is not YAML") from error


def study_template(kind: str = "table") -> str:
    """A commented study.yaml for a person to fill in."""
    if kind != "table":
        raise UsageError(f"no template {kind!r}: {suggest(kind, ['table'])}")
    return _TEMPLATE


def _override(data: dict[str, Any], text: str) -> None:
    key, value = parse_setting(text)
    *parents, last = key.split(".")
    for parent in parents:
        data = data.setdefault(parent, {})
        if not isinstance(data, dict):
            raise UsageError(f"--set {key}: {parent!r} is not a section")
    data[last] = value


def _relative_to(study: Study, folder: Path) -> Study:
    table = str(folder / study.data.table)
    schema = str(folder / study.data.table_schema) if study.data.table_schema else None
    policy = folder / study.policy
    return study.model_copy(
        update={
            "data": study.data.model_copy(update={"table": table, "table_schema": schema}),
            "policy": str(policy) if policy.suffix in (".yaml", ".yml") else study.policy,
        }
    )


def _first_problem(error: ValidationError) -> str:
    """One sentence without the offending value, which could be a patient's."""
    problems = error.errors(include_url=False, include_input=False)
    problem = next((p for p in problems if p["type"] == "extra_forbidden"), problems[0])  # a typo explains what lacks
    *where, last = [str(part) for part in problem["loc"]] or ["study"]
    section = ".".join(where) or "the study"
    if problem["type"] == "extra_forbidden":
        return f"{section} has no key {last!r}: {suggest(last, _keys(where))}"
    return f"{'.'.join([*where, last])}: {problem['msg'][:1].lower()}{problem['msg'][1:]}"


def _keys(where: Sequence[str]) -> list[str]:
    model: Any = Study
    for part in where:
        annotation = model.model_fields[part].annotation
        model = next((kind for kind in (annotation, *get_args(annotation)) if isinstance(kind, type)), Study)
    return [field.alias or name for name, field in model.model_fields.items()]


_TEMPLATE = """\
# A study: read, split, fit, sample, audit, decide, release.
# Run it with:  synthgen run study.yaml -o RUN      (--dry-run shows the job first)

data:
  table: patients.csv        # CSV, TSV, Parquet, Arrow or Excel; relative to this file
  # schema: patients.schema.yaml   # made by: synthgen schema infer patients.csv -o patients.schema.yaml
  # target: died             # a column that a model would predict; without it utility is not measured
  # patient: patient_id      # rows with equal values are one patient; without it each row is one
  # encoding: latin-1        # of a text file that is not UTF-8

split:
  holdout: 0.3               # share of patients that no generator sees; the audit needs it

generator:
  name: diffusion            # synthgen list generators
  settings:
    max_seconds: 120         # synthgen describe diffusion

sample:
  # rows: 5000               # by default as many as there are train rows
  # where: {sex: F}          # columns held at one value in every row

policy: research-share       # internal | research-share | public, or a file of your own
# licence: CC BY 4.0         # for the datasheet of the release
seed: 7
"""
