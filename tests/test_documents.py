"""README and docs: every code block is run, every link and every name of a file leads somewhere, references are fresh.

A block's language says what becomes of it: `sh` (moesim is run in this process, made quick; of make the target must
exist), `python` (executed, or run as a doctest), `yaml` (loaded, laid over the starter scenario where it is a part of
one), `text` (shown only: what programs print, and diagrams).
"""

import contextlib
import doctest
import gzip
import io
import json
import pkgutil
import re
import shlex
import shutil
import sqlite3
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import reference
import site_hooks
import typer

from sim.cli import main
from sim.cli.app import app
from sim.scenario.load import load_scenario_text
from sim.scenario.scenario_files import STARTER
from sim.scenario.yaml_file import parse_yaml

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
LANGUAGES = {"sh", "python", "yaml", "text"}
QUICK = {"sequences": 16, "sequence_length": 256, "microbatches": 2}
"""The work of commands and scenarios in documents, whatever they name."""
SIMULATES = {"run", "timeline", "why", "compare", "report", "schedules", "sweep"}
"""Commands that take that work; saved results cannot be changed."""
OPERATIONS = """dp_rank,stage,step,optype,seq_id,mc,mb_id,start_ms,duration_ms
0,0,0,forward-compute,0,0,0,0.0,10.0
0,0,0,backward-compute,0,0,0,10.0,20.0
0,0,0,forward-compute,1,0,1,30.0,10.0
0,0,0,backward-compute,1,0,1,40.0,30.0
"""
"""What was measured of a job of one worker, two microbatches of which the second is longer."""
SLOW = {"docs/validation.md", "docs/reference/commands.md", "docs/gallery.md"}
"""Pages whose commands hold the model against every published figure, some several times, or draw everything."""
FENCE = re.compile(r"^```(\S*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
FILE = re.compile(r"`((?:sim|topology|workloads|tests|benchmarks|docs|scenarios|tools)/[\w/.-]*(?:\.\w+|/))`")
DOTTED = re.compile(r"`((?:sim|topology|workloads)(?:\.\w+)+)`")


class Block(NamedTuple):
    """A fenced block of a page."""

    language: str
    text: str
    line: int


def blocks(page: Path) -> list[Block]:
    """Return the fenced blocks of a page."""
    text = page.read_text(encoding="utf-8")
    return [Block(found[1], found[2], text.count("\n", 0, found.start()) + 1) for found in FENCE.finditer(text)]


def prose(page: Path) -> str:
    """Return a page without its fenced blocks."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def slugs(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as the site shows it."""
    titles = re.findall(r"^#+ (.*)$", site_hooks.on_page_markdown(prose(page)), re.MULTILINE)
    return {re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", title).strip().lower()) for title in titles}


def with_blocks(*languages: str) -> list[Any]:
    """Return the pages that have blocks of these languages, as parameters."""
    pages = [page for page in PAGES if any(block.language in languages for block in blocks(page))]
    names = {str(page.relative_to(ROOT)): page for page in pages}
    slow = SLOW if "sh" in languages else frozenset()
    return [
        pytest.param(page, id=name, marks=[pytest.mark.slow] if name in slow else []) for name, page in names.items()
    ]


def run_moesim(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a command of a document, with `> FILE` where it stands, and check that it ends well."""
    if words[1] == "search":  # minutes each: its arguments alone are checked here, searches in tests of their own
        typer.main.get_command(app).commands["search"].make_context("search", words[2:])
        if "-o" in words:
            shutil.copy(
                "scenarios/ep16_tp16_pp4.yaml", words[words.index("-o") + 1]
            )  # stands for what the search finds
        return
    words, target = (words[:-2], words[-1]) if words[-2:-1] == [">"] else (words, None)
    if "qwen3_30b_h100" in words:  # it serves requests, and has no sequences
        words += ["--set", "workload.requests.count=30"]
    elif words[1] in SIMULATES and "--model" not in words and not any(word.endswith(".json") for word in words):
        given = {word.partition("=")[0] for word in words}  # a key is set once
        for key, value in QUICK.items():
            words += [] if f"workload.{key}" in given else ["--set", f"workload.{key}={value}"]
    if words[1:2] == ["run"]:
        words += ["--set", "alternatives=[]", "--set", "rivals=[]", "--jobs", "1"]
    if words[1:3] == ["results", "show"]:  # a key that the store has stands for the key of the page
        with contextlib.closing(sqlite3.connect(words[3])) as store:
            words[4] = store.execute("SELECT key FROM points").fetchone()[0]
    if words[1:2] == ["stress"]:
        words += [] if "--trace" in words else ["--skew", "1"]
        words += ["--seeds", "1", "--jobs", "1", "--set", "workload.sequence_length=128"]
    monkeypatch.setattr(sys, "argv", ["moesim", *words[1:]])
    said = io.StringIO()
    with contextlib.redirect_stdout(said), pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0, words
    assert "--help" not in words or "Usage" in said.getvalue()
    if target is not None:
        Path(target).write_text(said.getvalue(), encoding="utf-8")


def run_line(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run one line of an `sh` block."""
    words = shlex.split(line, comments=True)
    if not words:
        return
    if words[0] == "make":
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
        assert re.search(rf"^{re.escape(words[1])}:", makefile, re.MULTILINE), line
    else:
        assert Path(words[0]).name == "moesim", f"{line}: only moesim and make can be run; mark the block `text`"
        run_moesim(words, monkeypatch)


def run_python(block: Block, page: Path, names: dict[str, Any]) -> None:
    """Execute a `python` block, or run it as a doctest where it has prompts."""
    if ">>>" not in block.text:
        exec(compile(block.text, f"{page.name}:{block.line}", "exec"), names)
        return
    example = doctest.DocTestParser().get_doctest(block.text, names, page.name, str(page), block.line)
    said = io.StringIO()
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    failed = runner.run(example, out=said.write, clear_globs=False).failed
    names.update(example.globs)
    assert not failed, said.getvalue()


def laid_over(part: dict[str, Any], whole: dict[str, Any]) -> dict[str, Any]:
    """Return a scenario in which a part replaces what it names."""
    merged = dict(whole)
    for key, value in part.items():
        old = whole.get(key)
        merged[key] = laid_over(value, old) if isinstance(value, dict) and isinstance(old, dict) else value
    return merged


def write_quick_scenarios(folder: Path) -> None:
    """Write the shipped scenarios with little work and without what they are compared with."""
    folder.mkdir()
    for file in sorted((ROOT / "scenarios").glob("*.yaml")):
        data = parse_yaml(file.read_text(encoding="utf-8")).data
        data = laid_over({"workload": QUICK}, data) | {"alternatives": [], "rivals": []}
        (folder / file.name).write_text(json.dumps(data), encoding="utf-8")  # JSON is YAML


def write_material(folder: Path) -> None:
    """Write what pages take as given: a scenario of the reader's own, and what was measured of a job."""
    (folder / "mine.yaml").write_text(json.dumps(laid_over({"workload": QUICK}, parse_yaml(STARTER).data)), "utf-8")
    (folder / "operations.csv").write_text(OPERATIONS, "utf-8")
    for rank in (0, 1):
        kernel = {"ph": "X", "cat": "kernel", "pid": 0, "tid": 7, "args": {"device": rank, "stream": 7}}
        events = [
            {"ph": "X", "cat": "gpu_user_annotation", "name": "ProfilerStep#1", "pid": 0, "tid": 7, "ts": 0, "dur": 90},
            {**kernel, "name": "sm90_xmma_gemm_bf16bf16_bf16f32", "ts": 0, "dur": 50},
            {**kernel, "name": "ncclDevKernel_AllReduce_Sum_bf16_RING_LL", "ts": 50, "dur": 40},
        ]
        data = {"traceEvents": events, "distributedInfo": {"backend": "nccl", "rank": rank, "world_size": 2}}
        (folder / f"rank{rank}.json.gz").write_bytes(gzip.compress(json.dumps(data).encode()))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_block_says_in_its_language_what_becomes_of_it(page):
    """A block without a known language would not be run by anything."""
    assert {block.language for block in blocks(page)} <= LANGUAGES
    assert not [block.line for block in blocks(page) if block.language == "text" and ">>> " in block.text]
    assert page.read_text(encoding="utf-8").count("\n```") == 2 * len(blocks(page))


@pytest.mark.parametrize("page", with_blocks("sh", "python"))
def test_commands_and_python_of_a_page_run(page, tmp_path, monkeypatch):
    """From top to bottom in one folder, as a reader would type them."""
    write_quick_scenarios(tmp_path / "scenarios")
    write_material(tmp_path)
    if "moesim init mine.yaml" in page.read_text(encoding="utf-8"):
        (tmp_path / "mine.yaml").unlink()
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for block in blocks(page):
        if block.language == "sh":
            for line in block.text.splitlines():
                run_line(line, monkeypatch)
        elif block.language == "python":
            run_python(block, page, names)


@pytest.mark.parametrize("page", with_blocks("yaml"))
def test_scenarios_of_a_page_load(page):
    """A part of a scenario is laid over the one that `moesim init` writes."""
    for block in blocks(page):
        if block.language == "yaml":
            data = parse_yaml(block.text).data
            if "workload" not in data:
                data = laid_over(data, parse_yaml(STARTER).data)
            assert load_scenario_text(json.dumps(data), file=f"{page.name}:{block.line}")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_of_a_page_lead_to_a_file_and_a_heading(page):
    """Links to other sites are not followed."""
    for target in LINK.findall(prose(page)):
        if target.startswith(("https://", "http://")):
            continue
        file, _, anchor = target.partition("#")
        goal = (page.parent / file).resolve() if file else page
        assert goal.exists(), target
        assert not anchor or anchor in slugs(goal), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_and_modules_that_a_page_names_exist(page):
    """Where a thing stands in the code is only worth reading while it is true."""
    for path in FILE.findall(prose(page)):
        assert (ROOT / path).exists(), path
    for name in DOTTED.findall(prose(page)):
        assert pkgutil.resolve_name(name) is not None


def test_the_first_page_shows_what_the_readme_shows():
    """One run, described twice."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for block in blocks(ROOT / "docs" / "index.md"):
        assert "simulated" not in block.text or block.text in readme


def test_the_first_page_takes_limits_and_accuracy_from_the_readme():
    """Their links are those of a page in docs."""
    shown = site_hooks.on_page_markdown((ROOT / "docs" / "index.md").read_text(encoding="utf-8"))
    assert "## How accurate" in shown
    assert "## Limits" in shown
    assert "README:" not in shown
    assert all(
        (ROOT / "docs" / target).exists() for target in LINK.findall(shown) if "#" not in target and ":" not in target
    )


@pytest.mark.parametrize("name", reference.PAGES)
def test_the_reference_is_what_schema_and_program_say(name):
    """`make reference` writes it."""
    written = (ROOT / "docs" / "reference" / name).read_text(encoding="utf-8")
    assert written == reference.PAGES[name](), "run `make reference`"


def test_every_page_is_in_the_navigation():
    """Decision notes are added by tools/site_hooks.py."""
    config = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    pages = {str(page.relative_to(ROOT / "docs")) for page in PAGES[1:]}
    listed = set(re.findall(r"- ([\w/]+\.md)$", config, re.MULTILINE))
    assert {page for page in pages if not page.startswith("decisions/")} == listed


def test_the_site_asks_no_other_host():
    """No fonts, and not the `offline` plugin, which would fetch a script."""
    config = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert "font: false" in config
    assert "https://" not in config
    assert "offline" not in config
