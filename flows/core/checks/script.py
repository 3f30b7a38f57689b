"""Read what a job config's scripts do, without running them."""

import os
import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from functools import reduce
from pathlib import PurePosixPath
from typing import Final, NamedTuple

from flows.core.checks.made_files import Made, files_made
from flows.core.checks.shell import ReadScript, read_commands
from flows.core.checks.shell_command import ShellCommand
from flows.core.checks.shell_text import join_lines
from flows.core.checks.shell_words import from_start, write_home
from flows.core.checks.wrappers import REPEATERS, WRAPPERS, unwrap
from flows.core.configs.schema import commands_of_oumi
from flows.core.models import Command

COMMANDS: Final = {command.value: command for command in Command} | {
    "eval": Command.EVALUATE,
    "synthesize": Command.SYNTH,
}
"""Oumi 0.9's names of the commands, including aliases."""

_NO_CONFIG: Final = frozenset({"--help", "--list", "--list-metrics"})
_MAY_HAVE_NO_CONFIG: Final = (Command.ANALYZE, Command.QUANTIZE)
"""Commands of Oumi 0.9 whose config may be left out."""

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

_RUN_NOTHING: Final = _HARMLESS | {
    "git", "curl", "wget", "cp", "mv", "ln", "mkdir", "touch", "tee", "tar", "find", "case"
}  # fmt: skip
"""Commands whose arguments are never a command."""


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
    """Empty if it is unknown, because another command adds it."""
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
    line: int = 0
    """The index of its line in the script."""
    is_elsewhere: bool = False
    """Whether it runs in another file system, such as a container's."""


class WrongCall(NamedTuple):
    """A call of `oumi` that Oumi refuses at once."""

    message: str
    fix: str
    is_certain: bool
    line: int
    nearest: str = ""


class Script:
    """The commands of a script, in order.

    Args:
        text: The script.
        envs: Variables that are set when it starts.
        read_script: Reads the script files that it runs; None: they are not followed.
    """

    def __init__(
        self, text: str, envs: Mapping[str, str], read_script: ReadScript | None = None
    ) -> None:
        self.text = text
        self.envs = envs
        self.commands = read_commands(text, envs, read_script)

    def made_files(self, *, before: int | None = None) -> MadeFiles:
        """The files that its commands may make: all of them, or those before an index.

        Relative paths start from the script's first folder.
        """
        return reduce(MadeFiles.plus, map(_files_made_by, self.commands[:before]), MadeFiles())

    def oumi_calls(self) -> Iterator[OumiCall]:
        """Find its calls of `oumi` with a config."""
        for index, command in enumerate(self.commands):
            call = _oumi_call(command.core, index)
            if call is not None:
                yield call

    def wrong_calls(self) -> Iterator[WrongCall]:
        """Find its calls of commands that Oumi does not have, and those without their config."""
        for command in self.commands:
            wrong = _wrong_call(command.core)
            if wrong is not None:
                yield wrong

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
    core = command.core
    made = files_made(core.words) if not command.is_followed else Made()
    is_unknown = made.is_unknown and core.name not in _HARMLESS
    anything = (made.anything or is_unknown) and place_of_oumi(core) is None
    placed = [_from_start(path, core.cwd) for path in (*command.writes, *made.files)]
    return MadeFiles(
        frozenset(filter(None, (_from_start(path, core.cwd) for path in made.folders))),
        frozenset(filter(None, placed)),
        anything or None in placed,
    )


def _from_start(path: str, cwd: str | None) -> str | None:
    """A path of a command relative to the script's first folder; None if unknown."""
    below = from_start(path)
    if below is not None:
        return os.path.normpath(below)
    path = write_home(path)
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
    wrapped = unwrap(words)
    start = len(words) - len(wrapped.words)
    places = [i for i, word in enumerate(words) if _is_oumi(word) and i >= start]
    if wrapped.is_look_up or not places:
        return None
    if wrapped.name == "oumi":
        return places[-1] if words[start + 1 : start + 2] == ["distributed"] else start
    place = places[-1]
    if wrapped.name not in WRAPPERS:
        is_runner = wrapped.name not in _RUN_NOTHING and words[place + 1 : place + 2] != []
        return place if is_runner and words[place + 1] in COMMANDS else None
    if wrapped.name.startswith("python") and words[place - 1] != "-m" and words[place][0] != "/":
        return None
    is_installed = any(word in ("install", "add", "sync") for word in words[start + 1 : place])
    return None if is_installed else place


def _is_oumi(word: str) -> bool:
    return PurePosixPath(word).name == "oumi" or word == "oumi.cli.main"


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
    if not config and not _may_be_added(command, words[start + 2 :]):
        return None
    named = {key[2:]: value for key, value in options.items() if key.startswith("--")}
    by_shell = {
        key
        for key, value in named.items()
        if value and ("$" in value or "`" in value or (value.startswith("~") and value in words))
    }
    return OumiCall(
        command=COMMANDS[name],
        config=config or "",
        options=named,
        cwd=command.cwd,
        is_distributed=not LAUNCHERS.isdisjoint(words[:start]),
        is_certain=command.is_certain and command.name in WRAPPERS | {"oumi"},
        place=index,
        by_shell=frozenset(by_shell),
        line=command.line,
        is_elsewhere=command.is_elsewhere,
    )


def _may_be_added(command: ShellCommand, arguments: list[str]) -> bool:
    """Whether a call gets a config that its words do not show."""
    if _NO_CONFIG.intersection(arguments):
        return False
    hides = any("$" in word or word in ("-c", "--config") for word in arguments)
    return hides or command.name in REPEATERS


def _wrong_call(command: ShellCommand) -> WrongCall | None:
    words, start = command.words, place_of_oumi(command)
    if start is None or command.name not in WRAPPERS | {"oumi"}:
        return None
    known = commands_of_oumi()
    for path in (words[start + 1 : start + 2], words[:3] if words[0] == "oumi" else []):
        name = path[-1] if path else ""
        group = path[1] if len(path) == 3 else ""
        names = known.get(group, []) if group else list(known)
        if not name or not names or not re.fullmatch(r"[a-z][\w-]*", name) or name in names:
            continue
        nearest = next(iter(get_close_matches(name, names, n=1)), "")
        hint = f"; did you mean {nearest}?" if nearest else ""
        return WrongCall(
            f"Oumi has no command {' '.join([*path[1:-1], name])}{hint}",
            f"Use one of {', '.join(names)}",
            command.is_certain,
            command.line,
            nearest,
        )
    name, arguments = "".join(words[start + 1 : start + 2]), words[start + 2 :]
    needs_config = name in COMMANDS and COMMANDS[name] not in _MAY_HAVE_NO_CONFIG
    options = _options(arguments)
    has_config = "-c" in options or "--config" in options or _NO_CONFIG.intersection(arguments)
    if not needs_config or has_config or _may_be_added(command, arguments):
        return None
    if any(word.startswith("-c") for word in arguments):
        return None
    return WrongCall(
        f"`oumi {name}` has no config", "Give one with -c", command.is_certain, command.line
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
        if re.match(r"-c[^=-]", word):  # the option and its value in one word
            found["-c"] = word[2:]
        elif equals:
            found[key] = value
        elif index < len(words) and not re.match(r"-[^\d.]", words[index]):
            found[key] = words[index]
            index += 1
        else:
            found[key] = None
    return found
