"""What is a study? The validated content of study.yaml, with `--set` overrides and a JSON Schema."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, ValidationError, model_validator

from synthgen.errors import ConfigError, UsageError, suggest
from synthgen.study_texts import TEMPLATES


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, strict=False)


class DataSection(_Section):
    """Where the patient records are, or the images."""

    table: Annotated[str | None, Field(description="CSV, TSV, Parquet, Arrow or Excel file, relative to this file")] = (
        None
    )
    images: Annotated[
        str | None,
        Field(description="folder, zip or tar of DICOM or pictures, or an .npz; beside a table: a cohort"),
    ] = None
    labels: Annotated[str | None, Field(description="of images; by default labels.csv of their folder")] = None
    unit: Annotated[Literal["slice", "volume"], Field(description="of DICOM: frames, or series")] = "slice"
    table_schema: Annotated[
        str | None, Field(alias="schema", description="schema file; inferred when absent (see: synthgen schema infer)")
    ] = None
    target: Annotated[str | None, Field(description="column that a model would predict; utility needs it")] = None
    patient: Annotated[str | None, Field(description="column whose equal values are one patient")] = None
    encoding: Annotated[str | None, Field(description="of a text file that is not UTF-8, such as latin-1")] = None

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if self.table is None and self.images is None:
            raise ValueError("data has a table, or images, or both where the images are of the table's patients")
        given = [name for name in ("table_schema", "patient", "encoding") if getattr(self, name) is not None]
        if not self.table and given:
            raise ValueError("schema, patient and encoding are for tables; images have labels")
        if not self.images and self.labels:
            raise ValueError("labels are for images")
        return self


class SplitSection(_Section):
    """How the holdout is set aside."""

    holdout: Annotated[float, Field(gt=0, lt=1, description="share of patients that no generator ever sees")] = 0.3
    validation: Annotated[
        float,
        Field(
            gt=0, lt=1, description="share of train's patients by whom several generators are ranked; unused for one"
        ),
    ] = 0.2


class GeneratorSection(_Section):
    """Which generator learns, and its settings."""

    name: Annotated[
        str | None, Field(description="see: synthgen list generators; by default diffusion, or image-diffusion")
    ] = None
    settings: Annotated[dict[str, Any], Field(description="see: synthgen describe NAME")] = {}


class ImagesSection(_Section):
    """How the images of a cohort follow from its records."""

    condition_on: Annotated[
        list[str] | None,
        Field(description="columns of the table that images go by; by default the finding, sex and age_years"),
    ] = None
    finding: Annotated[
        str | None, Field(description="column that the images show, for headers and checks; by default the target")
    ] = None
    headers: Annotated[
        dict[Literal["sex", "age_years", "study_date"], str],
        Field(description="columns of the table that headers say, where they are called otherwise"),
    ] = {}
    generator: GeneratorSection = GeneratorSection()


def _named(entry: Any) -> Any:
    return {"name": entry} if isinstance(entry, str) else entry


def _how_many(value: Any) -> str:
    return "several" if isinstance(value, list | tuple) else "one"


_ByName = Annotated[GeneratorSection, BeforeValidator(_named, json_schema_input_type=str | GeneratorSection)]
_Generators = Annotated[
    Annotated[_ByName, Tag("one")] | Annotated[tuple[_ByName, ...], Field(min_length=2), Tag("several")],
    Discriminator(_how_many),
]
_TAGS = ("one", "several")  # pydantic puts them into the location of an error


class SampleSection(_Section):
    """What is sampled."""

    rows: Annotated[int | None, Field(gt=0, description="or images; by default as many as train has")] = None
    where: Annotated[dict[str, Any], Field(description="columns held at one value in every row")] = {}
    balance: Annotated[
        list[str], Field(description="columns of whose cells each gets as many rows, such as [sex, finding]")
    ] = []
    cells: Annotated[
        list[dict[str, Any]], Field(description="rows of each cell, such as {sex: F, rows: 200}, in place of rows")
    ] = []
    form: Annotated[Literal["dicom", "png"], Field(alias="as", description="of images")] = "dicom"
    modality: Annotated[str | None, Field(description="of images as DICOM; by default that of train")] = None

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.cells and (self.rows or self.balance):
            raise ValueError("cells say how many rows there are: leave rows and balance out")
        return self


class Study(_Section):
    """The whole job: read, split, fit, sample, audit, decide, release."""

    data: DataSection
    split: SplitSection = SplitSection()
    generator: Annotated[
        _Generators, Field(description="one, or a list of which the best that passes the policy is released")
    ] = GeneratorSection()
    images: Annotated[ImagesSection, Field(description="of a cohort, whose data are a table and images")] = (
        ImagesSection()
    )
    sample: SampleSection = SampleSection()
    policy: Annotated[str, Field(description="a shipped policy or a file (see: synthgen list policies)")] = (
        "research-share"
    )
    licence: Annotated[
        str | None, Field(description="under which the release may be used: a name, or the address of its text")
    ] = None
    seed: Annotated[int, Field(ge=0, description="equal seeds and steps give equal bytes")] = 0

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        seen: list[tuple[str, dict[str, Any]]] = []
        for section in self._sections:
            entry = (self._name(section), section.settings)
            if entry in seen:
                raise ValueError(f"the generator {entry[0]!r} is listed twice with the same settings")
            seen.append(entry)
        if self.is_cohort and self.several:
            raise ValueError("a cohort has one generator of its records and one of its images")
        return self

    @property
    def generators(self) -> dict[str, Study]:
        """The study of each generator alone, by a label: its name, numbered where other settings come with it again.

        >>> several = {"data": {"table": "p.csv"}, "generator": ["gan", {"name": "gan", "settings": {"max_steps": 9}}]}
        >>> list(study_from_mapping(several).generators)
        ['gan', 'gan-2']
        """
        found: dict[str, Study] = {}
        names = [self._name(section) for section in self._sections]
        for place, section in enumerate(self._sections):
            times = names[: place + 1].count(names[place])
            label = names[place] if times == 1 else f"{names[place]}-{times}"
            found[label] = self.model_copy(update={"generator": section})
        return found

    @property
    def several(self) -> bool:
        """Whether there are generators to choose from."""
        return isinstance(self.generator, tuple)

    @property
    def generator_name(self) -> str:
        """The generator that is named, or that of the modality."""
        return self._name(self._only)

    @property
    def generator_settings(self) -> dict[str, Any]:
        """The settings of the only generator."""
        return self._only.settings

    @property
    def _only(self) -> GeneratorSection:
        assert isinstance(self.generator, GeneratorSection), "of several generators each has a study: see generators"
        return self.generator

    @property
    def _sections(self) -> tuple[GeneratorSection, ...]:
        return self.generator if isinstance(self.generator, tuple) else (self.generator,)

    def _name(self, section: GeneratorSection) -> str:
        return section.name or ("diffusion" if self.data.table else "image-diffusion")

    @property
    def image_generator_name(self) -> str:
        """Of a cohort: what makes its images."""
        return self.images.generator.name or "image-diffusion"

    @property
    def is_cohort(self) -> bool:
        """Whether it is about a table and the images of its patients."""
        return self.data.table is not None and self.data.images is not None

    def resolved(self) -> dict[str, Any]:
        """Plain data with every default filled in; of files only the name, never where they lie."""
        data = self.model_dump(by_alias=True)
        sections = [{"name": self._name(section), "settings": section.settings} for section in self._sections]
        data["generator"] = sections if self.several else sections[0]
        if not self.several:
            del data["split"]["validation"]  # without effect
        if self.is_cohort:
            data["images"]["generator"]["name"] = self.image_generator_name
        else:
            del data["images"]  # without effect
        for key in ("table", "schema", "images", "labels"):
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

    >>> study_from_mapping({"data": {"table": "patients.csv"}}).generator_name
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
    if kind not in TEMPLATES:
        raise UsageError(f"no template {kind!r}: {suggest(kind, TEMPLATES)}")
    return TEMPLATES[kind]


def _override(data: dict[str, Any], text: str) -> None:
    key, value = parse_setting(text)
    *parents, last = key.split(".")
    for parent in parents:
        data = data.setdefault(parent, {})
        if not isinstance(data, dict):
            raise UsageError(f"--set {key}: {parent!r} is not a section")
    data[last] = value


def _relative_to(study: Study, folder: Path) -> Study:
    names = ("table", "table_schema", "images", "labels")
    paths = {name: str(folder / path) for name in names if (path := getattr(study.data, name)) is not None}
    policy = folder / study.policy
    return study.model_copy(
        update={
            "data": study.data.model_copy(update=paths),
            "policy": str(policy) if policy.suffix in (".yaml", ".yml") else study.policy,
        }
    )


def _first_problem(error: ValidationError) -> str:
    """One sentence without the offending value, which could be a patient's."""
    problems = error.errors(include_url=False, include_input=False)
    problem = next((p for p in problems if p["type"] == "extra_forbidden"), problems[0])  # a typo explains what lacks
    *where, last = [str(part) for part in problem["loc"] if part not in _TAGS] or ["study"]
    section = ".".join(where) or "the study"
    if problem["type"] == "extra_forbidden":
        return f"{section} has no key {last!r}: {suggest(last, _keys(where))}"
    message = problem["msg"].removeprefix("Value error, ")
    return f"{'.'.join([*where, last])}: {message[:1].lower()}{message[1:]}"


def _keys(where: Sequence[str]) -> list[str]:
    model: Any = Study
    for part in where:
        if not part.isdecimal():  # a place in a list
            model = next(iter(_models(model.model_fields[part].annotation)), Study)
    return [field.alias or name for name, field in model.model_fields.items()]


def _models(annotation: Any) -> list[type[BaseModel]]:
    """The sections that an annotation names, however deep."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models(part)]
