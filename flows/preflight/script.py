"""What a job config's scripts do, read without running them."""

import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Final, NamedTuple

from flows.models import Command

COMMANDS: Final = {command.value: command for command in Command} | {
    "eval": Command.EVALUATE,
    "synthesize": Command.SYNTH,
}
"""Oumi 0.9's names of the commands, aliases included."""

_KEYWORDS: Final = frozenset(
    {"if", "then", "else", "elif", "do", "while", "until", "!", "{", "(", "time", "exec"}
)
_OPERATORS: Final = frozenset(";&|()")
_ASSIGNMENT: Final = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)
_VARIABLE: Final = re.compile(r"\$(?:\{(\w+)\}|(\w+))")
_HEREDOC: Final = re.compile(r"<<-?\s*['\"]?(\w+)['\"]?")
_HARMLESS: Final = frozenset(
    {"set", "echo", "export", "source", ".", "cd", "pip", "pip3", "uv", "conda", "oumi", "test",
     "[", "[[", "exit", "nvidia-smi", "sleep", "ulimit", "module", "ls", "pwd", "env", "date",
     "hostname", "fi", "done", "esac", "}", ")", "true", "false", "return", "printf", "cat",
     "unset", "which", "hf", "huggingface-cli", "wandb", "trap", "nproc", "free", "df", "ray"}
)  # fmt: skip
"""Commands that make no file that a recipe would read."""


class ShellCommand(NamedTuple):
    """One simple command of a script, its known variables replaced."""

    words: list[str]
    cwd: str | None
    """The folder it runs in, relative to where the script starts; None: not known."""


class OumiCall(NamedTuple):
    """A call of `oumi` that loads a config."""

    command: Command
    config: str
    options: dict[str, str | None]
    """The long options and their values; None: not known."""
    cwd: str | None
    is_distributed: bool


class Script:
    """The commands of a script, in their order.

    Args:
        text: The script.
        envs: Variables that are set when it starts.
    """

    def __init__(self, text: str, envs: Mapping[str, str]) -> None:
        self.text = text
        self.commands = list(_commands(text, dict(envs)))

    @property
    def may_make_files(self) -> bool:
        """Whether it runs commands that may make any file."""
        return any(
            PurePosixPath(command.words[0]).name not in _HARMLESS
            or "download" in command.words
            or any(word.startswith(">") for word in command.words)
            for command in self.commands
            if not _is_oumi(command.words)
        )

    def oumi_calls(self) -> Iterator[OumiCall]:
        """Its calls of `oumi` with a config."""
        for command in self.commands:
            call = _oumi_call(command)
            if call is not None:
                yield call

    @property
    def uses_oumi(self) -> bool:
        """Whether it calls `oumi`."""
        return any(_is_oumi(command.words) for command in self.commands)

    @property
    def stops_at_errors(self) -> bool:
        """Whether it ends at the first command that fails."""
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
        """How many of its commands would run even after the one before has failed."""
        lines = [line.strip() for line in _joined(self.text).splitlines()]
        lines = [line for line in lines if line and not line.startswith("#")]
        lines = [line for line in lines if not re.match(r"(set|export|echo)\b", line)]
        return len(lines) + sum(
            len(re.findall(r";(?!;)\s*\S", re.sub(r"'[^']*'|\"[^\"]*\"", "", line)))
            for line in lines
        )


def _commands(text: str, variables: dict[str, str]) -> Iterator[ShellCommand]:
    cwd: str | None = ""
    for words in _simple_commands(text):
        expanded = [_expand(word, variables) for word in words]
        while expanded and (matched := _ASSIGNMENT.fullmatch(expanded[0])):
            if len(expanded) == 1:
                variables[matched[1]] = matched[2]
            expanded = expanded[1:]
        if not expanded:
            continue
        if expanded[0] in ("export", "declare", "local"):
            for word in expanded[1:]:
                if matched := _ASSIGNMENT.fullmatch(word):
                    variables[matched[1]] = matched[2]
        yield ShellCommand(expanded, cwd)
        if expanded[0] == "cd":
            cwd = _changed(cwd, expanded[1] if len(expanded) > 1 else "~")


def _changed(cwd: str | None, folder: str) -> str | None:
    if folder in ("~/sky_workdir", "$HOME/sky_workdir", "${HOME}/sky_workdir"):
        return ""
    if "$" in folder or folder.startswith(("/", "~", "-", "`")) or cwd is None:
        return None
    return str(PurePosixPath(cwd) / folder)


def _simple_commands(text: str) -> Iterator[list[str]]:
    """The words of each simple command; what cannot be read is left out."""
    pending = ""
    for line in _without_heredocs(_joined(text)).splitlines():
        pending = f"{pending}\n{line}" if pending else line
        try:
            words = _words(pending)
        except ValueError:  # a quote goes on in the next line
            if pending.count("\n") > 200:
                pending = ""
            continue
        pending = ""
        command: list[str] = []
        for word in words:
            if word and set(word) <= _OPERATORS:
                yield from _stripped(command)
                command = []
            else:
                command.append(word)
        yield from _stripped(command)


def _words(line: str) -> list[str]:
    lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|()")
    lexer.whitespace_split = True
    lexer.commenters = "#"
    return list(lexer)


def _stripped(command: list[str]) -> Iterator[list[str]]:
    while command and command[0] in _KEYWORDS:
        command = command[1:]
    if command:
        yield command


def _joined(text: str) -> str:
    return re.sub(r"\\\n\s*", " ", text)


def _without_heredocs(text: str) -> str:
    kept: list[str] = []
    until = ""
    for line in text.splitlines():
        if until:
            until = "" if line.strip() == until else until
            continue
        kept.append(line)
        matched = _HEREDOC.search(line)
        if matched and "<<<" not in line:
            until = matched[1]
    return "\n".join(kept)


def _expand(word: str, variables: Mapping[str, str]) -> str:
    def value(matched: "re.Match[str]") -> str:
        return variables.get(matched[1] or matched[2], matched[0])

    return _VARIABLE.sub(value, word)


def _sets_e(word: str) -> bool:
    return bool(re.fullmatch(r"-[a-zA-Z]*e[a-zA-Z]*", word)) or word == "errexit"


def _is_oumi(words: list[str]) -> bool:
    return any(PurePosixPath(word).name == "oumi" for word in words)


def _oumi_call(command: ShellCommand) -> OumiCall | None:
    words = command.words
    starts = [i for i, word in enumerate(words) if PurePosixPath(word).name == "oumi"]
    if not starts or starts[-1] + 1 >= len(words):
        return None
    name = words[starts[-1] + 1]
    if name not in COMMANDS:
        return None
    options = _options(words[starts[-1] + 2 :])
    config = options.pop("-c", None) or options.pop("--config", None)
    if not config:
        return None
    named = {key[2:]: value for key, value in options.items() if key.startswith("--")}
    return OumiCall(
        command=COMMANDS[name],
        config=config,
        options=named,
        cwd=command.cwd,
        is_distributed=starts[-1] > 0 and words[starts[-1] - 1] == "-m",
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
        elif index < len(words) and not words[index].startswith("--"):
            found[key] = words[index]
            index += 1
        else:
            found[key] = None
    return found
