"""Values as users type them: YAML 1.2 on the command line, in recipes, matrices and tables."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import yaml

from avalanche_proxyfda._yaml import read_yaml, write_yaml
from benchmarks.config import Config, find_recipe, load_recipe, parse_overrides
from benchmarks.config.keys import keys_help
from benchmarks.execution.fitted import fitted
from benchmarks.execution.matrix import jobs_of, load_matrix
from benchmarks.methods.plugins import make_plugins
from benchmarks.results.published_files import read_table

# section 10.3.2 of the specification of YAML 1.2.2, with neighbours that are texts
SCALARS: list[tuple[str, Any]] = [
    *((text, text) for text in ("off", "on", "no", "yes", "y", "n", "tRue", "nUll", "None")),
    *((text, text) for text in ("12:30:45", "2020-01-01", "1_000", "0b1", "0o8", "0x", "=", "e5")),
    *((text, text) for text in ("1.5.2", "+", "+0o7", "1e", ".", "inf", "nan", "<<")),
    ("1e-4", 1e-4),
    ("1E5", 1e5),
    ("+1e3", 1e3),
    ("-2.5e+3", -2500.0),
    (".5", 0.5),
    ("1.", 1.0),
    ("0777", 777),
    ("0o777", 0o777),
    ("0x1F", 31),
    ("-12", -12),
    ("true", True),
    ("FALSE", False),
    ("~", None),
    ("Null", None),
    ("", None),
    ("-.INF", -math.inf),
    ("'1e-4'", "1e-4"),
    ("!!str 1", "1"),
]


@pytest.mark.parametrize(("text", "value"), SCALARS)
def test_scalars_of_yaml_1_2(text: str, value: Any) -> None:
    found = read_yaml(f"a: {text}")["a"]
    assert found == value and type(found) is type(value)


def test_a_key_is_a_scalar_too() -> None:
    assert read_yaml("{off: 1, no: 2, <<: {a: 1}}") == {"off": 1, "no": 2, "<<": {"a": 1}}
    assert math.isnan(read_yaml(".nan"))


CONTENT = """
method: proxy-fda
strength: 1
options: {learning_rate: 1e-4}
where: {teacher_cache: off}
train: {lr: 1e-3}
"""


def check(config: Config) -> None:
    assert config.where.teacher_cache == "off"
    assert config.options["learning_rate"] == 1e-4
    assert config.train.lr == 1e-3


def test_values_on_the_command_line_are_those_of_a_recipe(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(CONTENT, encoding="utf-8")
    (tmp_path / "plain.yaml").write_text("method: proxy-fda\nstrength: 1", encoding="utf-8")
    typed = ["where.teacher_cache=off", "options.learning_rate=1e-4", "train.lr=1e-3"]
    in_file = load_recipe(tmp_path / "x.yaml").config
    typed_in = load_recipe(tmp_path / "plain.yaml", parse_overrides(typed)).config
    check(in_file)
    check(typed_in)
    assert in_file.identity == typed_in.identity


def test_values_of_a_matrix(tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_text(
        "streams: [concepts.yaml]\nmethods: [proxy-fda]\nstrengths: {proxy-fda: [1e-1]}\n"
        "set: {where.teacher_cache: off, train.lr: 1e-3}\n"
        "variants: [{options.learning_rate: 1e-4}]\n",
        encoding="utf-8",
    )
    (job,) = fitted(jobs_of(load_matrix(str(tmp_path / "m.yaml")), tmp_path))
    check(job.config)
    assert job.config.strength == 0.1


def test_values_of_a_published_table(tmp_path: Path) -> None:
    shipped = Path(__file__).parents[3] / "benchmarks" / "published" / "huang2025_table05.yaml"
    text = shipped.read_text(encoding="utf-8")
    assert "authors: Huang et al." in text
    changed = text.replace("authors: Huang et al.", "authors: no").replace("0.94", "9.4e-1")
    (tmp_path / "x.yaml").write_text(changed, encoding="utf-8")
    table = read_table(tmp_path / "x.yaml")
    assert table.paper.authors == "no" and table.rows == read_table(shipped).rows


@pytest.mark.parametrize(
    "value",
    [
        *("1e-4", "1E5", "0o17", "0777", "off", "yes", "1_0", "", "~", "12:30", "2020-01-01"),
        *(1e-5, 1e22, 0.1, -3, True, None, "a b", "λ"),
    ],
)
def test_written_values_are_read_alike_by_both_versions(value: Any) -> None:
    text = write_yaml({"a": value}, allow_unicode=True)
    for found in (read_yaml(text)["a"], yaml.safe_load(text)["a"]):
        assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    ("method", "option"), [("fda", "hard_class_batches"), ("proxy-fda", "attention")]
)
def test_a_word_is_no_flag_of_a_plugin(method: str, option: str) -> None:
    for word in ("off", "no"):  # YAML 1.1 read them as false
        with pytest.raises(TypeError, match=rf"options\.{option}='{word}': give true or false"):
            make_plugins(method, 1.0, options=parse_overrides([f"{option}={word}"]))
    make_plugins(method, 1.0, options=parse_overrides([f"{option}=false"]))


def test_words_are_flags_of_the_schema_as_before() -> None:
    pairs = ["where.keep_weights=yes", "train.channels_last=off", "panel.transport=on"]
    config = load_recipe(find_recipe("concepts.yaml"), parse_overrides(pairs)).config
    assert config.where.keep_weights is True and config.panel.transport is True
    assert config.train.channels_last is False


def test_defaults_in_the_help_can_be_typed_again() -> None:
    assert "teacher_cache = 'off'" in keys_help() or "teacher_cache = off" in keys_help()
    assert "train.lr = 1.0e-05" in keys_help()
