"""Where the demo speaks: lines for a pipe, a live bar for a terminal."""

from __future__ import annotations

import sys
import time
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from brokerq.demo.tally import Table

if TYPE_CHECKING:
    from rich.live import Live

TIMING = "* depends on timing, and differs from run to run"
EVERY = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a phase is.

    Attributes:
        ended: Of `total` jobs.
        detail: The rest, in a few words.
    """

    phase: str
    ended: int
    total: int
    detail: str


class Screen(Protocol):
    """What the demo says things to."""

    @abstractmethod
    def say(self, text: str = "") -> None:
        """Show a line."""

    @abstractmethod
    def progress(self, progress: Progress) -> None:
        """Show how far the phase is; called as often as one likes."""

    @abstractmethod
    def table(self, table: Table) -> None:
        """Show numbers; the bar of a phase that went before stays as it is."""

    @abstractmethod
    def close(self) -> None:
        """Leave the terminal as it was."""


class PlainScreen(Screen):
    """Lines; a progress line every second, and when a phase is done."""

    def __init__(self, echo: Callable[[str], None]) -> None:
        self._echo = echo
        self._begun = time.monotonic()
        self._last = float("-inf")

    def say(self, text: str = "") -> None:
        """Show a line."""
        self._echo(text)

    def progress(self, progress: Progress) -> None:
        """Show a line if one is due."""
        now = time.monotonic()
        if now - self._last < EVERY and progress.ended < progress.total:
            return
        self._last = now
        self._echo(
            f"  {now - self._begun:5.1f} s  {progress.phase}: {progress.ended:,} of "
            f"{progress.total:,} ended; {progress.detail}"
        )

    def table(self, table: Table) -> None:
        """Show numbers in columns."""
        self._echo(f"\n{table.title}\n{'-' * len(table.title)}")
        for line in table.lines:
            mark = "*" if line.timing else " "
            self._echo(f"{line.label:<20} {line.value:>9,}{mark}  {line.note}".rstrip())
        self._echo(f"{'':<30} {TIMING}\n")

    def close(self) -> None:
        """Nothing is left to do."""


class LiveScreen(Screen):
    """A bar that moves above a line of numbers, and tables with rules."""

    def __init__(self) -> None:
        from rich.console import Console  # noqa: PLC0415 - slow to import, and only used here

        self._console = Console(highlight=False)
        self._live: Live | None = None
        self._phase = ""

    def say(self, text: str = "") -> None:
        """Show a line, above the bar."""
        self._console.print(text, markup=False, soft_wrap=True)

    def progress(self, progress: Progress) -> None:
        """Move the bar; a new phase has a new one."""
        from rich.console import Group  # noqa: PLC0415 - slow to import
        from rich.live import Live  # noqa: PLC0415 - as above
        from rich.progress_bar import ProgressBar  # noqa: PLC0415 - as above
        from rich.table import Table as Grid  # noqa: PLC0415 - as above
        from rich.text import Text  # noqa: PLC0415 - as above

        if self._live is None or self._phase != progress.phase:
            self.close()
            self._phase = progress.phase
            self._live = Live(console=self._console, refresh_per_second=8)
            self._live.start()
        bar = Grid.grid(padding=(0, 1))
        bar.add_row(
            Text(progress.phase, style="bold"),
            ProgressBar(total=progress.total, completed=progress.ended, width=36),
            f"{progress.ended:,} of {progress.total:,}",
        )
        detail = Text(progress.detail, style="dim", overflow="ellipsis", no_wrap=True)
        self._live.update(Group(bar, detail), refresh=progress.ended == progress.total)

    def table(self, table: Table) -> None:
        """Show numbers in a box."""
        from rich.table import Table as Box  # noqa: PLC0415 - slow to import

        self.close()
        box = Box(
            title=table.title,
            title_justify="left",
            title_style="bold",
            caption=TIMING,
            caption_justify="left",
            show_header=False,
        )
        box.add_column(no_wrap=True)
        box.add_column(justify="right", no_wrap=True)
        box.add_column(style="dim")
        for line in table.lines:
            value = f"{line.value:,}{'*' if line.timing else ' '}"
            box.add_row(line.label, value, line.note)
        self._console.print()
        self._console.print(box)
        self._console.print()

    def close(self) -> None:
        """Leave the bar where it is."""
        if self._live is not None:
            self._live.stop()
            self._live = None


def open_screen(echo: Callable[[str], None]) -> Screen:
    """Return the screen for where standard output goes; `echo` is used unless it is a terminal."""
    return LiveScreen() if sys.stdout.isatty() else PlainScreen(echo)
