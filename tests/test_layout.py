"""The shape of the repository: what is packaged, how large files are, what may not be in them."""

import re
import subprocess
import tomllib
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from pydantic import AliasPath, BaseModel, Field

import brokerq

ROOT = Path(__file__).parents[1]
LONGEST_FILE = 400
# Absolute paths of one person's machine; the pattern is written so that it does not find itself.
MACHINE_PATH = re.compile(r"(?<![\w.])/(?:work|root)/")


class Contract(BaseModel):
    id: str
    modules: set[str] = set()
    source_modules: set[str] = set()
    forbidden_modules: set[str] = set()
    ignore_imports: set[str] = set()


class Pyproject(BaseModel):
    """What these tests ask of pyproject.toml."""

    wheel: list[str] = Field(
        validation_alias=AliasPath("tool", "hatch", "build", "targets", "wheel", "packages")
    )
    linted: set[str] = Field(validation_alias=AliasPath("tool", "importlinter", "root_packages"))
    contracts: list[Contract] = Field(
        validation_alias=AliasPath("tool", "importlinter", "contracts")
    )

    def contract(self, name: str) -> Contract:
        return next(contract for contract in self.contracts if contract.id == name)


@pytest.fixture
def pyproject() -> Pyproject:
    return Pyproject.model_validate(tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8")))


@pytest.fixture
def adapters() -> set[str]:
    return {path.parent.name for path in ROOT.glob("adapters/*/__init__.py")}


@pytest.fixture
def committed() -> list[Path]:
    """What git tracks, and what it would after the next `git add`."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    paths = (ROOT / name for name in listing.split("\0") if name)
    return [path for path in paths if path.is_file()]


def test_the_wheel_holds_the_core_and_every_adapter(
    pyproject: Pyproject, adapters: set[str]
) -> None:
    assert sorted(pyproject.wheel) == sorted(
        ["brokerq", *(f"adapters/{name}" for name in adapters)]
    )


def test_the_folder_of_the_adapters_is_no_package() -> None:
    assert not (ROOT / "adapters" / "__init__.py").exists()


def test_every_package_says_that_it_is_typed(pyproject: Pyproject) -> None:
    assert [name for name in pyproject.wheel if not (ROOT / name / "py.typed").exists()] == []


def test_every_adapter_is_found_by_an_entry_point_that_loads(adapters: set[str]) -> None:
    found = entry_points(group="brokerq.adapters")
    assert {point.module for point in found} == adapters
    for point in found:
        assert callable(point.load()), point


def test_the_import_contracts_name_every_adapter(pyproject: Pyproject, adapters: set[str]) -> None:
    assert pyproject.linted == {"brokerq"} | adapters
    assert pyproject.contract("independent").modules == adapters
    assert pyproject.contract("seam").source_modules == adapters
    assert pyproject.contract("core").forbidden_modules >= adapters


def test_the_import_contracts_name_no_module_that_is_gone(pyproject: Pyproject) -> None:
    """A contract on a pattern that fits nothing would be kept for ever."""
    patterns = {
        *pyproject.contract("pure").source_modules,
        *pyproject.contract("sql").source_modules,
        *(rule.split(" -> ")[1] for rule in pyproject.contract("seam").ignore_imports),
    }
    theirs = {name.removeprefix("*.") for name in patterns if name.startswith("*.")}
    ours = {
        name.removesuffix(".*").split(".", 1)[1].replace(".", "/")
        for name in patterns
        if not name.startswith("*.")
    }
    there = ROOT / "brokerq"
    assert ours - {str(p.relative_to(there).with_suffix("")) for p in there.rglob("*")} == set()
    assert theirs - {path.stem for path in ROOT.glob("adapters/*/*")} == set()


def test_every_source_file_can_be_read_whole() -> None:
    sources = [*ROOT.glob("brokerq/**/*.py"), *ROOT.glob("adapters/**/*.py")]
    lengths = {str(p.relative_to(ROOT)): len(p.read_bytes().splitlines()) for p in sources}
    assert {name: lines for name, lines in lengths.items() if lines > LONGEST_FILE} == {}


def test_no_committed_text_names_a_path_of_one_machine(committed: list[Path]) -> None:
    culprits = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in committed
        for number, line in enumerate(path.read_text("utf-8", "replace").splitlines(), 1)
        if MACHINE_PATH.search(line)
    ]
    assert culprits == []


def test_every_public_name_can_be_imported() -> None:
    assert brokerq.__all__ == sorted(brokerq.__all__)
    assert [name for name in brokerq.__all__ if not hasattr(brokerq, name)] == []
