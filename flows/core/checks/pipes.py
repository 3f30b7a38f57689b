"""Find commands of a shell script that may fail while their pipeline succeeds."""

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Final, NamedTuple

_SHRUGS: Final = frozenset({"true", ":", "echo", "printf"})
"""Commands after ``||`` that make a failure irrelevant."""


class _Group(NamedTuple):
    """The state that a parenthesis or a block interrupts."""

    start: int
    piped: list[int]
    pipefail: bool | None
    """The value to restore after it; None: its own value stays."""


class Pipes:
    """Follows a script, command by command, and records commands whose exit status is lost.

    The last command decides a pipeline's status, unless ``set -o pipefail`` is set or the script
    reads ``PIPESTATUS`` next.

    Args:
        pipefail: Whether it is set when the script starts.
    """

    def __init__(self, *, pipefail: bool = False) -> None:
        self.pipefail = pipefail
        self.commands: list[list[str]] = []
        self.quoted: list[tuple[str, bool]] = []
        """Scripts in ``"$(...)"``, and whether pipefail is set in each."""
        self._lost: dict[int, int] = {}
        self._piped: list[int] = []
        self._unit = range(0)
        self._groups: list[_Group] = []
        self._last = range(0)
        self._asked = False
        self._kept: set[int] = set()
        """Commands whose status the script reads itself, as ``$?``."""
        self._watched: list[int] = []
        self._alternative: list[int] = []

    def end_of(self, index: int) -> list[str] | None:
        """The command that decides the status of a pipeline; None if its own status counts."""
        return self.commands[self._lost[index]] if index in self._lost else None

    def see(self, token: str) -> None:
        """Read a token of the script, before its command ends."""
        if "PIPESTATUS" in token:
            self._forget(self._watched)
        self._asked |= "$?" in token
        if '"' in token and "$(" in token:
            self.quoted += [(text, self.pipefail) for text in substitutions(token)]

    def open(self, *, is_shell: bool) -> None:
        """Begin a parenthesis or a block; settings in a subshell end with it."""
        group = _Group(len(self.commands), self._piped, self.pipefail if is_shell else None)
        self._groups.append(group)
        self._piped, self._alternative = [], []

    def close(self, *, is_command: bool) -> None:
        """End the last group; `is_command`: whether it stands where a command can."""
        start, self._piped, pipefail = self._groups.pop()
        if pipefail is not None:
            self.pipefail = pipefail
        self._unit = range(start, len(self.commands)) if is_command else range(0)

    def end(self, words: Sequence[str], operator: str) -> None:
        """End a command or a group; without words only a group ends."""
        if self._asked and words[:1] not in (["exit"], ["return"]):
            self._kept |= set(self._last)
        self._asked = False
        if words:
            self._unit = range(len(self.commands), len(self.commands) + 1)
            self.commands.append(list(words))
            self._set(words)
            if words[0] in _SHRUGS:
                self._forget(self._alternative)
            self._alternative = []
        unit, self._unit = self._unit, range(0)
        self._last = unit or self._last
        if operator in ("|", "|&"):
            self._piped += unit
            return
        if unit:
            self._watched = self._piped
            if not self.pipefail:
                self._lost |= {one: unit[-1] for one in self._piped if one not in self._lost}
                self._forget(tuple(self._kept))
        if operator == "||":
            self._alternative = [*self._piped, *unit]
        self._piped = []

    def _forget(self, commands: Sequence[int]) -> None:
        for one in commands:
            self._lost.pop(one, None)

    def _set(self, words: Sequence[str]) -> None:
        if words[0] == "shopt" and "pipefail" in words:
            self.pipefail = any(re.fullmatch(r"-o?s+o?", word) for word in words)
        elif words[0] == "set":
            for option, name in pairwise(words):
                if name == "pipefail" and re.fullmatch(r"[-+]\w*o", option):
                    self.pipefail = option[0] == "-"


def substitutions(token: str) -> list[str]:
    """The scripts of the ``$(...)`` in a word."""
    found: list[str] = []
    start, depth = 0, 0
    for index, letter in enumerate(token):
        if letter == "(":
            if depth == 0 and token[index - 1 : index] != "$":
                continue
            start, depth = (index + 1 if depth == 0 else start), depth + 1
        elif letter == ")" and depth:
            depth -= 1
            if depth == 0:
                found.append(token[start:index])
    return found
