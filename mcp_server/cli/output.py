"""Where a command writes: results to standard output, everything else to standard error.

All text of others goes through here to a person's terminal: no escape sequence, hidden character or
markup in it has an effect.
"""

import json
import sys
from collections.abc import Callable, Collection, Generator, Iterable
from contextlib import contextmanager
from io import TextIOWrapper
from typing import Final

from pydantic import BaseModel
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from flows.core.redaction import own_redactor
from mcp_server.cli.tables import make_table
from mcp_server.cli.words import in_terminal_words
from mcp_server.inert_text import inert_json, one_line, visible

_UNBOUNDED: Final = 10_000
"""Width in columns of a table that no person sees: wide enough that no cell is cut."""


class Output:
    """The two standard streams."""

    def __init__(self) -> None:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, TextIOWrapper):
                # Names and logs hold what a terminal's encoding may not have.
                stream.reconfigure(errors="backslashreplace")
        self._out = _Console(highlight=False)
        if not self._out.is_terminal:
            # rich takes a pipe for 80 columns wide and cuts tables to that.
            self._out.width = _UNBOUNDED
        self._err = _Console(highlight=False, stderr=True)
        self._drawing = False

    @property
    def is_terminal(self) -> bool:
        """Whether a person looks at standard output."""
        return self._out.is_terminal

    def json(self, value: BaseModel) -> None:
        """Write a value as one line of JSON, as the MCP tools answer with it."""
        content = value.model_dump(mode="json", by_alias=True)
        self._write(inert_json(json.dumps(own_redactor().data(content), ensure_ascii=False)))

    def text(self, text: str) -> None:
        """Write text of several lines, not wrapped."""
        self._write(visible(own_redactor().data(text)))

    def log(self, text: str) -> None:
        """Write lines of a log; to a file or a program every character that was read of them."""
        self._write(visible(text) if self.is_terminal else text)

    def line(self, text: str, *, style: str = "") -> None:
        """Write a line."""
        self._out.print(_words(text, style), soft_wrap=True)

    def note(self, text: str, *, style: str = "dim") -> None:
        """Write a line that is not part of the result."""
        self._err.print(_words(text, style), soft_wrap=True)

    def rows(self, rows: Iterable[tuple[str, str]]) -> None:
        """Write names and values, leaving out those without a value."""
        for name, value in rows:
            if value:
                words = Text.assemble(
                    (f"  {name:<12} ", "bold"), one_line(own_redactor().data(value))
                )
                self._out.print(words, soft_wrap=True)

    @property
    def width(self) -> int:
        """Columns of the terminal."""
        return self._out.width

    def table(
        self,
        columns: Iterable[str],
        rows: Iterable[Iterable[Text]],
        *,
        yielding: Collection[str] = (),
    ) -> None:
        """Write a table.

        Args:
            columns: Its headings.
            rows: Its cells.
            yielding: Headings of columns that give way where a terminal is too narrow for all, the
                first of them last. The others are whole in any case.
        """
        shown = make_table(
            [one_line(column) for column in columns],
            [[Text(one_line(cell.plain), cell.style) for cell in row] for row in rows],
            width=self._out.width,
            yielding=yielding,
        )
        self._out.print(shown, soft_wrap=True)

    def _write(self, text: str) -> None:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()

    @contextmanager
    def steps(self) -> Generator[Callable[[str], None]]:
        """Report the steps of a slow action; without steps nothing appears."""
        if self._drawing or not self._err.is_terminal:
            yield self.note
            return
        with self._err.status("") as spinner:
            spinner.stop()

            def report(step: str) -> None:
                spinner.update(Text(one_line(step)))
                spinner.start()

            yield report

    @contextmanager
    def bar(self) -> Generator["Bar"]:
        """A progress bar that is gone in the end. Only for a terminal."""
        self._drawing = True
        try:
            with Bar(self._out) as bar:
                yield bar
        finally:
            self._drawing = False


class Bar:
    """A bar: what it is about, how far it is, and since when.

    Args:
        console: Where it is drawn.
    """

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=30),
            TextColumn("{task.fields[words]}", markup=False),
            TimeElapsedColumn(),
            console=console,
            transient=True,
        )
        self._task = TaskID(0)

    def __enter__(self) -> "Bar":
        """Begin to draw."""
        self._progress.start()
        self._task = self._progress.add_task("", total=None, words="")
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the bar."""
        self._progress.stop()

    def show(self, what: str, percent: float | None, words: str, *, since_seconds: float) -> None:
        """Redraw the bar.

        Args:
            what: What it is about.
            percent: How far it is; None if unknown.
            words: How far it is, in words.
            since_seconds: How long it has been going on.
        """
        task = self._progress.tasks[0]
        task.start_time = self._progress.get_time() - since_seconds
        self._progress.update(
            self._task,
            description=one_line(what),
            completed=percent or 0.0,
            total=None if percent is None else 100.0,
            words=one_line(words),
        )


def _words(text: str, style: str) -> Text:
    """A line's text, in a terminal's words.

    What follows in further lines stands apart, so that it cannot pose as ours.
    """
    shown = visible(in_terminal_words(own_redactor().data(text)))
    return Text(shown.replace("\n", "\n    "), style)


class _Console(Console):
    def on_broken_pipe(self) -> None:
        # rich would exit with 1, which here means that a job failed.
        raise BrokenPipeError
