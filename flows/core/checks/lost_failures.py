"""Find commands of a job's script that may fail while the job succeeds."""

import re
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Final, NamedTuple

from flows.core.checks.script import COMMANDS, LAUNCHERS, Script, place_of_oumi
from flows.core.checks.shell import read_pipes
from flows.core.checks.shell_command import ShellCommand
from flows.core.checks.wrappers import WRAPPERS

_INSTALLERS: Final = frozenset({"pip", "pip3", "uv", "conda", "mamba", "poetry", "pixi"})
_SHELLS: Final = frozenset({"bash", "sh", "zsh"})
_QUIET: Final = re.compile(r"-\w*q\w*|--quiet|--silent")
_LONGEST: Final = 80
_DEEPEST: Final = 3
"""How many levels of scripts within scripts are read."""


class LostFailure(NamedTuple):
    """A command that may fail while its pipeline succeeds."""

    command: str
    into: str
    """The command whose exit status counts instead."""


def lost_failures(script: Script, *, pipefail: bool = False) -> list[LostFailure]:
    """Find commands whose failure a pipeline hides, because its last command decides its status.

    They are calls of ``oumi``, and programs whose output is piped into ``tee`` for a log.

    Args:
        script: The script.
        pipefail: Whether ``set -o pipefail`` holds when it starts.
    """
    found = _find_lost(script.text, script.envs, pipefail=pipefail, depth=_DEEPEST)
    return [LostFailure(_name(words), into[0]) for words, into in found if _matters(words, into)]


def sets_pipefail(script: Script) -> bool:
    """Whether ``set -o pipefail`` holds when a script ends."""
    return read_pipes(script.text, script.envs, pipefail=False).pipefail


def _find_lost(
    text: str, envs: Mapping[str, str], *, pipefail: bool, depth: int
) -> Iterator[tuple[list[str], list[str]]]:
    """Find commands whose exit status is lost, and those that count instead; read inner scripts."""
    pipes = read_pipes(text, envs, pipefail=pipefail)
    inner = list(pipes.quoted)
    for index, words in enumerate(pipes.commands):
        into = pipes.end_of(index)
        if into:
            yield words, into
        script = _inner(words)
        if script is not None and depth:
            inner.append(script)
            if into:
                pieces = read_pipes(script[0], envs, pipefail=script[1]).commands
                yield from ((piece, into) for piece in pieces)
    if depth:
        for script, holds in inner:
            yield from _find_lost(script, envs, pipefail=holds, depth=depth - 1)


def _inner(words: list[str]) -> tuple[str, bool] | None:
    """The script that ``bash -c`` in a command runs, and whether it has pipefail set."""
    for place, word in enumerate(words):
        if PurePosixPath(word).name not in _SHELLS:
            continue
        options = words[place + 1 :]
        for index, option in enumerate(options[:-1]):
            if re.fullmatch(r"-\w*c", option):
                return options[index + 1], "pipefail" in options[:index]
            if not option.startswith(("-", "+")) and option != "pipefail":
                break
    return None


def _matters(words: list[str], into: list[str]) -> bool:
    """Whether the failure of a command should be the script's."""
    if any(_QUIET.fullmatch(word) for word in into[1:]):
        return False  # the script only needs its output
    command = ShellCommand(words, None)
    place = place_of_oumi(command)
    if place is not None:
        return words[place + 1 : place + 2] != [] and words[place + 1] in COMMANDS
    if PurePosixPath(into[0]).name != "tee":
        return False
    if command.name in _INSTALLERS or words[1:3] == ["-m", "pip"]:
        return any(word in ("install", "add", "sync", "run", "create", "update") for word in words)
    runs_code = any(word.endswith(".py") for word in words) or "-m" in words
    return command.name in LAUNCHERS or (command.name in WRAPPERS and runs_code)


def _name(words: list[str]) -> str:
    """The name of a command, without its arguments, which may contain secrets."""
    place = place_of_oumi(ShellCommand(words, None))
    if place is not None:
        return f"oumi {words[place + 1]}"
    return " ".join(word for word in words[:2] if word[0:1] != "-" and "=" not in word)[:_LONGEST]
