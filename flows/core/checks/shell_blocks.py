"""What a reader of a shell script keeps while it reads: blocks, parentheses, functions."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from flows.core.checks.shell_text import ShellText
from flows.core.checks.shell_words import Variables

_MOST_COMMANDS: Final = 2000
ReadScript = Callable[[str, str | None], str | None]
"""Reads a script file: its path and the folder it is relative to; None if it cannot be read."""


@dataclass
class Shared:
    """What the readers of a script and of the scripts in it have in common."""

    read_script: ReadScript | None
    most: int = _MOST_COMMANDS
    functions: dict[str, tuple[ShellText, int | None]] = field(
        default_factory=dict[str, tuple[ShellText, int | None]]
    )
    called: set[str] = field(default_factory=set[str])


class Block(NamedTuple):
    """An ``if``, a loop, a ``case`` or a function, and whether its commands may not run."""

    end: str
    is_optional: bool
    function: str = ""
    start: int = 0
    """Where the text of a function begins."""
    variable: str = ""
    """The variable of a loop."""


class Paren(NamedTuple):
    """The state that a parenthesis interrupts and its end restores."""

    kind: str
    words: list[str]
    writes: list[str]
    cwd: str | None
    variables: Variables
