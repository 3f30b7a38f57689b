"""Read what a job config's scripts do, without running them."""

import os
import re
from collections.abc import Iterator, Mapping
from functools import reduce
from pathlib import PurePosixPath
from typing import Final, NamedTuple

from flows.core.checks.shell import ShellCommand, join_lines, read_commands
from flows.core.models import Command

COMMANDS: Final = {command.value: command for command in Command} | {
    "eval": Command.EVALUATE,
    "synthesize": Command.SYNTH,
}
"""Oumi 0.9's names of the commands, including aliases."""

WRAPPERS: Final = frozenset(
    {"env", "time", "nohup", "nice", "ionice", "timeout", "stdbuf", "sudo", "setsid", "numactl",
     "torchrun", "accelerate", "deepspeed", "python", "python3", "srun", "mpirun", "mpiexec",
     "uv", "poetry", "pipenv", "conda", "mamba", "pixi", "xvfb-run", "nsys", "apptainer",
     "singularity", "docker"}
)  # fmt: skip
"""Commands that run another command."""

LAUNCHERS: Final = frozenset(
    {"distributed", "torchrun", "accelerate", "deepspeed", "srun", "mpirun", "mpiexec"}
)
"""Wrappers that may start several processes."""

_HARMLESS: Final = frozenset(
    {"set", "echo", "source", ".", "cd", "pushd", "popd", "pip", "pip3", "uv", "conda", "mamba",
     "test", "[", "[[", "]]", "exit", "nvidia-smi", "rocm-smi", "sleep", "wait", "ulimit",
     "module", "ls", "pwd", "env", "date", "hostname", "whoami", "id", "uname", "true", "false",
     ":", "return", "shift", "printf", "cat", "unset", "read", "which", "type", "command", "hf",
     "huggingface-cli", "wandb", "trap", "nproc", "free", "df", "du", "ray", "rm", "chmod",
     "chown", "kill", "pkill", "for", "select", "function", "export", "declare", "local",
     "readonly", "typeset", "alias", "shopt", "eval", "apt", "apt-get", "yum", "dnf", "apk",
     "brew", "head", "tail", "grep", "wc", "sort", "uniq", "cut", "awk", "sed", "tr", "jq",
     "basename", "dirname", "realpath", "readlink", "seq", "oumi", "nvcc", "lsb_release", "sudo",
     "break", "continue", "lscpu", "ps", "top", "ping", "diff", "cmp", "stat", "file"}
)  # fmt: skip
"""Commands that do not make files that a recipe reads."""

_MAKES_ARGUMENTS: Final = frozenset({"mkdir", "touch", "tee"})
_MAKES_LAST: Final = frozenset({"cp", "mv", "ln"})


class MadeFiles(NamedTuple):
    """The files that commands may make."""

    folders: frozenset[str] = frozenset()
    """Folders that are empty at first."""
    files: frozenset[str] = frozenset()
    """Files, and folders with their content."""
    anything: bool = False
    """Whether any other file may be made."""

    def has(self, path: str) -> bool:
        """Whether a file is made."""
        return _is_within(path, self.files)

    def may_have(self, path: str) -> bool:
        """Whether a file may be made."""
        return self.anything or path in self.folders or self.has(path)

    def has_folder_of(self, path: str) -> bool:
        """Whether a path, or a folder that it is in, is made."""
        return _is_within(path, self.files | self.folders)

    def plus(self, other: "MadeFiles") -> "MadeFiles":
        """Combine the files that both may make."""
        return MadeFiles(
            self.folders | other.folders, self.files | other.files, self.anything or other.anything
        )


class OumiCall(NamedTuple):
    """A call of `oumi` that loads a config."""

    command: Command
    config: str
    options: dict[str, str | None]
    """The long options and their values; None: unknown."""
    cwd: str | None
    is_distributed: bool
    is_certain: bool
    """Whether it certainly runs, and the job fails if it does."""
    place: int
    """Its index among the script's commands."""
    by_shell: frozenset[str] = frozenset()
    """The options whose values the shell expands; it does not expand ~ after a =."""


class Script:
    """The commands of a script, in order.

    Args:
        text: The script.
        envs: Variables that are set when it starts.
    """

    def __init__(self, text: str, envs: Mapping[str, str]) -> None:
        self.text = text
        self.envs = envs
        self.commands = read_commands(text, envs)

    def made_files(self, *, before: int | None = None) -> MadeFiles:
        """The files that its commands may make: all of them, or those before an index.

        Relative paths start from the script's first folder.
        """
        return reduce(MadeFiles.plus, map(_files_made_by, self.commands[:before]), MadeFiles())

    def oumi_calls(self) -> Iterator[OumiCall]:
        """Find its calls of `oumi` with a config."""
        for index, command in enumerate(self.commands):
            call = _oumi_call(command, index)
            if call is not None:
                yield call

    @property
    def uses_oumi(self) -> bool:
        """Whether it calls `oumi`."""
        return any(place_of_oumi(command) is not None for command in self.commands)

    @property
    def stops_at_errors(self) -> bool:
        """Whether it stops at the first command that fails."""
        if any(
            command.words[0] == "set" and any(_sets_e(word) for word in command.words[1:])
            for command in self.commands
        ):
            return True
        if re.match(r"#!.*\bbash\b.*\s-\w*e", self.text):
            return True
        return self.statements <= 1

    @property
    def statements(self) -> int:
        """The number of its commands that run even if the previous one failed."""
        lines = [line.strip() for line in join_lines(self.text).splitlines()]
        lines = [line for line in lines if line and not line.startswith("#")]
        lines = [line for line in lines if not re.match(r"(set|export|echo)\b", line)]
        return len(lines) + sum(
            len(re.findall(r";(?!;)\s*\S", re.sub(r"'[^']*'|\"[^\"]*\"", "", line)))
            for line in lines
        )


def _files_made_by(command: ShellCommand) -> MadeFiles:
    words = command.words
    while words[0] == "sudo" and len(words) > 1:
        words = words[2:] if words[1].startswith("-") and len(words) > 2 else words[1:]
    name = PurePosixPath(words[0]).name
    arguments = [word for word in words[1:] if not word.startswith("-")]
    files = list(command.writes)
    folders: list[str] = []
    anything = False
    if name in _MAKES_ARGUMENTS:
        (folders if name == "mkdir" else files).extend(arguments)
    elif name in _MAKES_LAST:
        files += arguments[-1:]
    elif name not in _HARMLESS or "download" in words:
        anything = place_of_oumi(command) is None
    placed = [_from_start(path, command.cwd) for path in files]
    return MadeFiles(
        frozenset(filter(None, (_from_start(path, command.cwd) for path in folders))),
        frozenset(filter(None, placed)),
        anything or None in placed,
    )


def _from_start(path: str, cwd: str | None) -> str | None:
    """A path of a command relative to the script's first folder; None if unknown."""
    if "$" in path or "`" in path:
        return None
    if path.startswith(("/", "~")):
        return os.path.normpath(path)
    return None if cwd is None else os.path.normpath(f"{cwd or '.'}/{path}")


def _is_within(path: str, places: frozenset[str]) -> bool:
    return any(path == place or path.startswith(f"{place}/") for place in places)


def _sets_e(word: str) -> bool:
    return bool(re.fullmatch(r"-[a-zA-Z]*e[a-zA-Z]*", word)) or word == "errexit"


def place_of_oumi(command: ShellCommand) -> int | None:
    """The index of the last `oumi` that a command runs, in its words; None if it runs none."""
    words = command.words
    places = [i for i, word in enumerate(words) if PurePosixPath(word).name == "oumi"]
    if command.name == "oumi":
        is_distributed = words[1:2] == ["distributed"]
        return places[-1] if is_distributed else 0
    if not places or command.name not in WRAPPERS:
        return None
    place = places[-1]
    if command.name.startswith("python") and words[place - 1] != "-m":
        return None
    is_installed = any(word in ("install", "add", "sync") for word in words[1:place])
    return None if is_installed else place


def _oumi_call(command: ShellCommand, index: int) -> OumiCall | None:
    words = command.words
    start = place_of_oumi(command)
    if start is None or start + 1 >= len(words):
        return None
    name = words[start + 1]
    if name not in COMMANDS:
        return None
    options = _options(words[start + 2 :])
    config = options.pop("-c", None) or options.pop("--config", None)
    if not config:
        return None
    named = {key[2:]: value for key, value in options.items() if key.startswith("--")}
    by_shell = {
        key
        for key, value in named.items()
        if value and ("$" in value or "`" in value or (value.startswith("~") and value in words))
    }
    return OumiCall(
        command=COMMANDS[name],
        config=config,
        options=named,
        cwd=command.cwd,
        is_distributed=not LAUNCHERS.isdisjoint(words[:start]),
        is_certain=command.is_certain,
        place=index,
        by_shell=frozenset(by_shell),
    )


def _options(words: list[str]) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    index = 0
    while index < len(words):
        word = words[index]
        index += 1
        if not word.startswith("-"):
            continue
        key, equals, value = word.partition("=")
        if equals:
            found[key] = value
        elif index < len(words) and not re.match(r"-[^\d.]", words[index]):
            found[key] = words[index]
            index += 1
        else:
            found[key] = None
    return found
