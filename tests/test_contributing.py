"""CONTRIBUTING.md is true: its code runs, and the files and tables that it names exist, as in docs/architecture.md."""

import re
from pathlib import Path

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)
PLACES = sorted(set(re.findall(r"`(\w+)` (?:in|\()\s*`([\w/]+\.py)`", TEXT)))


@pytest.mark.parametrize("code", BLOCKS, ids=[code.split("\n")[0] for code in BLOCKS])
def test_the_code_of_a_recipe_runs(code):
    """Each block stands alone and checks its own result."""
    exec(code, {})


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "docs/architecture.md"])
def test_every_file_that_is_named_exists(page):
    """Paths in backticks are read from the root."""
    text = (ROOT / page).read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:sim|topology|workloads|tests|benchmarks|docs)/[\w/.]*)`", text))
    assert len(named) >= 15
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


@pytest.mark.parametrize(("name", "path"), PLACES)
def test_a_table_stands_where_the_recipe_says(name, path):
    """`NAME` in `file` is found there as a word."""
    assert re.search(rf"\b{name}\b", (ROOT / path).read_text(encoding="utf-8"))


def test_a_commit_is_checked_as_make_lint_checks_and_nothing_is_fetched():
    """Every hook of pre-commit is the make target itself, from this repository."""
    repos = YAML(typ="safe").load(ROOT / ".pre-commit-config.yaml")["repos"]
    assert [repo["repo"] for repo in repos] == ["local"]
    assert [(hook["entry"], hook["language"]) for hook in repos[0]["hooks"]] == [("make lint", "system")]
