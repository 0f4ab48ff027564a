"""The types that a program sees, as mypy and pyright see them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
API = Path(__file__).with_name("api.py")
PYRIGHT = {
    "typeCheckingMode": "strict",
    "pythonVersion": "3.11",
    "extraPaths": [str(ROOT), str(ROOT / "adapters")],
    "enableTypeIgnoreComments": False,  # those are mypy's
    "reportUnnecessaryTypeIgnoreComment": "error",
}
UNUSED = {"mypy": "Unused", "pyright": "Unnecessary"}

pytestmark = pytest.mark.timeout(240)  # with cold caches both read the whole of pydantic


def check(checker: str, file: Path, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    if checker == "mypy":
        options = ["--config-file", str(ROOT / "pyproject.toml"), "--no-error-summary", str(file)]
    else:
        config = tmp_path / "pyrightconfig.json"
        config.write_text(json.dumps({**PYRIGHT, "include": [str(file)]}), "utf-8")
        options = ["--project", str(config), "--pythonpath", sys.executable]
    return subprocess.run(
        [sys.executable, "-m", checker, *options],
        cwd=ROOT,
        env={**os.environ, "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("checker", UNUSED)
def test_what_is_right_passes_and_each_mistake_is_found(checker: str, tmp_path: Path) -> None:
    done = check(checker, API, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("checker", UNUSED)
def test_a_mistake_that_is_none_any_more_is_found(checker: str, tmp_path: Path) -> None:
    """Otherwise the lines that end in `ignore` would prove nothing."""
    right = API.read_text("utf-8")
    changed = tmp_path / "api.py"
    changed.write_text(right.replace("charge.publish(order_id=1)", 'charge.publish("o")'), "utf-8")
    assert changed.read_text("utf-8") != right
    done = check(checker, changed, tmp_path)
    errors = [line for line in done.stdout.splitlines() if "error:" in line]
    assert done.returncode == 1
    assert len(errors) == 1, done.stdout
    assert UNUSED[checker] in errors[0]
