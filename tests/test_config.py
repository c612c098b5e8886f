"""Study files: defaults, overrides, and errors that name the nearest key."""

import pytest
import yaml

from synthgen.config import Study, load_study, parse_setting, study_from_mapping, study_template
from synthgen.errors import ConfigError, UsageError


def study_file(tmp_path, text):
    path = tmp_path / "study.yaml"
    path.write_text(text)
    return path


def test_the_template_is_a_study(tmp_path):
    study = load_study(study_file(tmp_path, study_template()))
    assert study.generator.settings == {"max_seconds": 120}
    assert study.policy == "research-share"


def test_overrides_and_relative_paths(tmp_path):
    path = study_file(tmp_path, "data: {table: p.csv}\n")
    study = load_study(path, overrides=("generator.settings.max_steps=50", "seed=3", "policy=mine.yaml"))
    assert study.generator.settings == {"max_steps": 50}
    assert study.seed == 3
    assert study.data.table == str(tmp_path / "p.csv")
    assert study.policy == str(tmp_path / "mine.yaml")


def test_the_resolved_study_holds_no_path(tmp_path):
    study = load_study(study_file(tmp_path, "data: {table: sub/p.csv, schema: s.yaml}\npolicy: q/mine.yaml\n"))
    assert str(tmp_path) not in yaml.safe_dump(study.resolved())
    assert study.resolved()["data"]["table"] == "p.csv"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("data: {tabel: p.csv}", "did you mean 'table'"),
        ("data: {table: p.csv}\ngenertor: {name: copula}", "did you mean 'generator'"),
        ("data: {table: p.csv}\nsplit: {holdout: 2}", "split.holdout"),
        ("data: {table: p.csv}\nseed: -1", "seed"),
        ("seed: 1", "data: field required"),
        ("- a", "not a mapping"),
        ("data: [", "not YAML at line"),
        ("data: {table: p.csv}\nsample: {rows: 0}", "sample.rows"),
    ],
)
def test_wrong_studies(tmp_path, text, message):
    with pytest.raises(ConfigError, match=message):
        load_study(study_file(tmp_path, text))


def test_errors_do_not_echo_values():
    with pytest.raises(ConfigError) as caught:
        study_from_mapping({"data": {"table": "p"}, "seed": "Zebulon"})
    assert "Zebulon" not in str(caught.value)


def test_settings_keep_their_type():
    assert parse_setting("a=1.5") == ("a", 1.5)
    assert parse_setting("a=true") == ("a", True)
    assert parse_setting("a=F") == ("a", "F")
    with pytest.raises(UsageError):
        parse_setting("a")
    with pytest.raises(UsageError):
        parse_setting("=3")


def test_json_schema_describes_every_key():
    properties = Study.model_json_schema(by_alias=True)["$defs"]["DataSection"]["properties"]
    assert all("description" in body for body in properties.values())
    assert "schema" in properties
