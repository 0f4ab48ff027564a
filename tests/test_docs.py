"""The documentation is true: every block of code in it runs."""

import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from tests.docs import README, ROOT, URLS, blocks, pages, with_capabilities

KNOWN = {"python", "console", "toml", "text"}


def _run(command: list[str], folder: Path) -> str:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    kept = {name: text for name, text in os.environ.items() if not name.startswith("BROKERQ_")}
    done = subprocess.run(
        command,
        cwd=folder,
        env={**kept, "PATH": path, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_every_block_of_a_page_runs_in_order(page: Path, tmp_path: Path) -> None:
    """Python blocks are saved, if they say as what, and run; console blocks are typed."""
    for block in blocks(page):
        assert block.language in KNOWN, f"{block}: nothing runs {block.language}"
        if block.language == "python":
            file = tmp_path / (block.file or "block.py")
            file.write_text(block.code, encoding="utf-8")
            _run([sys.executable, "-W", "error", str(file)], tmp_path)
        elif block.language == "toml":
            assert tomllib.loads(block.code)
        elif block.language == "console":
            for line in re.findall(r"^\$ (.*)$", block.code, re.MULTILINE):
                _type(line, tmp_path)


def _type(line: str, folder: Path) -> None:
    if line.startswith("make "):  # these run everything, this test too: they only have to exist
        _run(["make", "--dry-run", "--always-make", *line.split()[1:]], ROOT)
    else:
        _run(["bash", "-euc", line], folder)


def test_the_table_of_capabilities_is_what_the_adapters_say() -> None:
    text = README.read_text(encoding="utf-8")
    assert text == with_capabilities(text), "run: make docs"


def test_every_installed_scheme_is_in_the_table() -> None:
    """One of each adapter's: amqps:// is amqp:// with TLS."""
    adapters = {point.name: point.value for point in entry_points(group="brokerq.adapters")}
    assert {adapters[name] for name in URLS} == set(adapters.values())


def test_every_setting_is_in_the_readme() -> None:
    from brokerq.settings import PREFIX, Settings  # noqa: PLC0415 - only here

    text = README.read_text(encoding="utf-8")
    hidden = {"log_level"}  # the command line's own, and documented there
    missing = [n for n in Settings.model_fields if f"`{PREFIX}{n.upper()}`" not in text]
    assert set(missing) == hidden


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_every_link_to_a_file_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    missing = [link for link in links if ":" not in link and not (page.parent / link).exists()]
    assert not missing
