"""Reads the documentation, for the tests that run it: `python -m tests.docs` writes its tables."""

import re
from dataclasses import dataclass
from pathlib import Path

from brokerq.clock import SystemClock
from brokerq.connect import open_backends
from brokerq.explain import capability_table

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
URLS = {
    "memory": "memory://",
    "sqlite": "sqlite:///jobs.db",
    "postgresql": "postgresql://host/database",
    "amqp": "amqp://localhost",
    "sqs": "sqs://us-east-1",
}
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_TABLE = re.compile(r"(<!-- capabilities:.*?-->\n).*?(<!-- /capabilities -->)", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A block of code in a page.

    Attributes:
        file: What the block says it is saved as, in its first line; or None.
    """

    page: Path
    line: int
    language: str
    code: str

    @property
    def file(self) -> str | None:
        found = re.match(r"# (\w+\.py)\n", self.code)
        return found[1] if found else None

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def pages() -> list[Path]:
    """Return every page, the README first."""
    return [README, *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path) -> list[Block]:
    """Return the page's blocks of code, in order."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(page=page, line=text.count("\n", 0, m.start()) + 1, language=m[1], code=m[2])
        for m in _BLOCK.finditer(text)
    ]


def with_capabilities(text: str) -> str:
    """Return the README with the table that the adapters give."""
    clock = SystemClock()
    brokers = [
        (name, open_backends(url, "none://", app="docs", clock=clock, cwd=ROOT).broker.capabilities)
        for name, url in URLS.items()
    ]
    return _TABLE.sub(lambda m: f"{m[1]}{capability_table(brokers)}{m[2]}", text)


if __name__ == "__main__":
    README.write_text(with_capabilities(README.read_text(encoding="utf-8")), encoding="utf-8")
