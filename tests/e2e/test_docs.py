"""The commands that the documentation shows exist, and the cheap ones work as they stand."""

import os
import re
import shlex
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from tests.support.stack import OUMI_FLOWS, REPOSITORY, Stack

PAGES = [
    REPOSITORY / "README.md",
    *sorted(REPOSITORY.glob("docs/**/*.md")),
    *sorted(REPOSITORY.glob("examples/**/*.md")),
]
_FENCE = re.compile(r"^```(?:console|bash|sh|shell)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_ASSIGNMENT = re.compile(r"[A-Z][A-Z0-9_]*=")
_SUBCOMMAND = re.compile(r"[a-z][a-z-]*$")
_FLAG = re.compile(r"(?<![\w-])--?[a-z][a-z-]*")
OURS = {"make", "oumi-flows", "prefect"}
AS_THEY_STAND = {"oumi-flows status", "oumi-flows doctor", "oumi-flows jobs", "oumi-flows up"}


@dataclass(frozen=True)
class Shown:
    """A command line as a page shows it."""

    page: Path
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.page.name}: {shlex.join(self.words)}"


def shown_commands() -> list[Shown]:
    found: dict[str, Shown] = {}
    for page in PAGES:
        for block in _FENCE.findall(page.read_text()):
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line.removeprefix("$ "), comments=True)
                while words and _ASSIGNMENT.match(words[0]):
                    words.pop(0)
                if words and Path(words[0]).name in OURS:
                    command = Shown(page, (Path(words[0]).name, *words[1:]))
                    found.setdefault(str(command), command)
    return list(found.values())


COMMANDS = shown_commands()


def test_the_documentation_shows_how_to_begin() -> None:
    shown = {command.words for command in COMMANDS if command.page.name == "README.md"}
    assert {("make", "demo"), ("make", "test")} <= shown


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.words[0] == "make"], ids=str)
def test_a_shown_make_target_exists(command: Shown) -> None:
    targets = re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
    named = [word for word in command.words[1:] if not _ASSIGNMENT.match(word)]
    assert set(named) <= set(targets)


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.words[0] != "make"], ids=str)
def test_a_shown_command_and_its_flags_exist(command: Shown) -> None:
    words = command.words
    if "|" in words:
        words = words[: words.index("|")]
    subcommand: list[str] = []
    for word in words[1:]:
        if not _SUBCOMMAND.match(word) or not knows(words[0], (*subcommand, word)):
            break
        subcommand.append(word)
    assert subcommand or words[1].startswith("-"), "no such subcommand"
    flags = {word.partition("=")[0] for word in words[1:] if _FLAG.match(word)}
    known = set(_FLAG.findall(help_of(words[0], tuple(subcommand)) or ""))
    known |= set(_FLAG.findall(help_of(words[0], ()) or ""))
    assert flags <= known


@pytest.mark.parametrize(
    "command", [c for c in COMMANDS if shlex.join(c.words) in AS_THEY_STAND], ids=str
)
def test_a_cheap_shown_command_works_as_it_stands(command: Shown, stack: Stack) -> None:
    stack.cli(*command.words[1:])


def knows(program: str, subcommand: tuple[str, ...]) -> bool:
    shown = help_of(program, subcommand)
    return shown is not None and shown != help_of(program, subcommand[:-1])


@cache
def help_of(program: str, subcommand: tuple[str, ...]) -> str | None:
    """What ``PROGRAM SUBCOMMAND --help`` prints; None if there is no such command."""
    done = subprocess.run(
        [str(OUMI_FLOWS.with_name(program)), *subcommand, "--help"],
        env={**os.environ, "COLUMNS": "300", "NO_COLOR": "1", "TERM": "dumb"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout if done.returncode == 0 else None
