"""Read the simple commands of a shell script, without running it."""

import re
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Final, NamedTuple

from flows.core.checks.pipes import Pipes

_QUOTED: Final = r"'[^']*'|\"(?:\\.|[^\"\\])*\"|\\."
_ARITHMETIC: Final = r"\(\((?:[^()]|\([^()]*\))*\)\)"
_TOKEN: Final = re.compile(
    r"(?P<space>[ \t\r]+)"
    r"|(?P<comment>\#[^\n]*)"
    r"|(?P<redirect>(?:\d+|&)?(?:>>|>\||>&|<<<|<<-?|<&|<>|[<>]))"
    rf"|(?P<arithmetic>{_ARITHMETIC})"
    r"|(?P<operator>\n|;;|&&|\|\||\|&|[;&|()])"
    rf"|(?P<word>(?:{_QUOTED}|\$\{{[^}}]*\}}|\${_ARITHMETIC}|[^\s;&|()<>'\"\\])+)",
    re.DOTALL,
)
_SEGMENT: Final = re.compile(rf"{_QUOTED}|[^'\"\\]+", re.DOTALL)
_ASSIGNMENT: Final = re.compile(r"([A-Za-z_]\w*)\+?=(.*)", re.DOTALL)
_VARIABLE: Final = re.compile(r"\$(?:\{(\w+)\}|(\w+))")
_HEREDOC: Final = re.compile(r"(?<!<)<<-?\s*['\"]?([A-Za-z_]\w*)['\"]?")
_SKIPPED: Final = frozenset({"!", "time", "exec", "then", "else", "elif", "do"})
_DECLARE: Final = frozenset({"export", "declare", "local", "readonly", "typeset"})
_TESTS: Final = frozenset({"test", "[", "[[", "command", "which", "type", "grep", "diff", "cmp"})
"""Commands that test something, so that commands after ``&&`` may not run."""


class ShellCommand(NamedTuple):
    """One simple command of a script, with its known variables replaced."""

    words: list[str]
    cwd: str | None
    """The folder it runs in, relative to the script's first folder; None: unknown."""
    is_certain: bool = True
    """Whether it runs if earlier commands succeed, and the script fails if it does."""
    writes: tuple[str, ...] = ()
    """The files its output is redirected to."""

    @property
    def name(self) -> str:
        """The command without its folder."""
        return PurePosixPath(self.words[0]).name


def read_commands(text: str, variables: Mapping[str, str]) -> list[ShellCommand]:
    """Read the commands of a script in order; skip those that cannot be read.

    Args:
        text: The script.
        variables: Variables that are set when it starts.
    """
    return list(_Reader(dict(variables), Pipes()).read(_without_heredocs(join_lines(text))))


def read_pipes(text: str, variables: Mapping[str, str], *, pipefail: bool) -> Pipes:
    """Read the pipelines of a script.

    Args:
        text: The script.
        variables: Variables that are set when it starts.
        pipefail: Whether ``set -o pipefail`` is set then.
    """
    pipes = Pipes(pipefail=pipefail)
    for _ in _Reader(dict(variables), pipes).read(_without_heredocs(join_lines(text))):
        pass
    return pipes


def join_lines(text: str) -> str:
    """Join lines of a script that end in a backslash with the next line."""
    return re.sub(r"\\\n\s*", " ", text)


class _Block(NamedTuple):
    """An ``if``, a loop, a ``case`` or a function, and whether its commands may not run."""

    end: str
    is_optional: bool


class _Paren(NamedTuple):
    """The state that a parenthesis interrupts and its end restores."""

    kind: str
    words: list[str]
    writes: list[str]
    cwd: str | None
    variables: dict[str, str]


class _Reader:
    def __init__(self, variables: dict[str, str], pipes: Pipes) -> None:
        self._variables = variables
        self._pipes = pipes
        self._cwd: str | None = ""
        self._words: list[str] = []
        self._writes: list[str] = []
        self._blocks: list[_Block] = []
        self._parens: list[_Paren] = []
        self._redirect = ""
        self._last_operator = ""
        self._last_name = ""
        self._is_chained = False
        self._is_function = False
        self._is_pattern = False

    def read(self, text: str) -> Iterator[ShellCommand]:
        for token in _TOKEN.finditer(text):
            if token.lastgroup != "comment":
                self._pipes.see(token[0])
            match token.lastgroup:
                case "redirect":
                    self._redirect = token[0]
                case "operator":
                    yield from self._operator(token[0])
                    self._redirect = ""
                case "word":
                    self._word(token[0])
                case _:
                    continue
        yield from self._finish("\n")

    def _word(self, word: str) -> None:
        if self._redirect:
            target = self._expand(word)[0]
            if ">" in self._redirect and not re.fullmatch(r"&?\d+|-|/dev/.*", target):
                self._writes.append(target)
            self._redirect = ""
        elif self._words or not self._keyword(word):
            self._words += self._expand(word)
            if self._words[0] == "case" and self._words[2:] == ["in"]:
                self._open_block("esac", is_optional=True)
                self._words, self._is_pattern = [], True

    def _keyword(self, word: str) -> bool:
        """Handle a first word that only affects how the others run; return whether it is one."""
        blocks = self._blocks
        match word:
            case "if":
                self._open_block("fi", is_optional=True)
            case "while" | "until":
                self._open_block("done", is_optional=True)
            case "{":
                self._open_block("}", is_optional=self._is_function)
                self._is_function = False
            case "fi" | "done" | "esac" | "}":
                if blocks and blocks[-1].end == word:
                    blocks.pop()
                    self._pipes.close(is_command=True)
                self._is_pattern = False
            case _ if word in _SKIPPED:
                pass
            case _:
                return False
        return True

    def _open_block(self, end: str, *, is_optional: bool) -> None:
        self._blocks.append(_Block(end, is_optional))
        self._pipes.open(is_shell=False)

    def _operator(self, operator: str) -> Iterator[ShellCommand]:
        if self._is_pattern:
            self._is_pattern = operator != ")"
            self._words = []
        elif operator == "(":
            self._open()
        elif operator == ")":
            yield from self._close()
        elif operator == "\n" and not self._words and self._last_operator in ("&&", "||", "|"):
            return  # the command continues in the next line
        else:
            yield from self._finish(operator)
            self._last_operator = operator
            self._is_pattern = operator == ";;"

    def _open(self) -> None:
        last = self._words[-1] if self._words else ""
        if last.endswith("$") or self._redirect:
            kind = "substitution"
        elif last.endswith("="):
            kind = "array"
        else:
            kind = "function" if last else "subshell"
        paren = _Paren(kind, self._words, self._writes, self._cwd, dict(self._variables))
        self._parens.append(paren)
        self._pipes.open(is_shell=True)
        self._words, self._writes = [], []

    def _close(self) -> Iterator[ShellCommand]:
        if not self._parens:
            return
        paren = self._parens[-1]
        if paren.kind not in ("array", "function"):
            yield from self._finish("\n")
        self._parens.pop()
        self._pipes.close(is_command=paren.kind == "subshell")
        self._words, self._writes = [], []
        self._cwd, self._variables = paren.cwd, paren.variables
        match paren.kind:
            case "substitution":
                self._words, self._writes = paren.words, paren.writes
            case "array":
                self._variables.pop(paren.words[-1].rstrip("+="), None)
            case "function":
                self._is_function = True
            case _:
                pass

    def _finish(self, operator: str) -> Iterator[ShellCommand]:
        words, writes = self._words, self._writes
        self._words, self._writes = [], []
        is_optional = self._is_chained or any(block.is_optional for block in self._blocks)
        while words and (matched := _ASSIGNMENT.fullmatch(words[0])):
            if len(words) == 1:
                self._assign(matched, is_optional=is_optional)
            words = words[1:]
        self._pipes.end(words, operator)
        if words:
            self._apply(words, is_optional=is_optional)
            is_certain = not is_optional and operator != "||"
            yield ShellCommand(words, self._cwd, is_certain, tuple(writes))
            if words[0] == "cd":
                folder = words[1] if len(words) > 1 else "~"
                self._cwd = None if is_optional else _change_folder(self._cwd, folder)
            self._last_name = words[0]
        match operator:
            case "||":
                self._is_chained = True
            case "&&":
                self._is_chained |= self._last_name in _TESTS
            case "|" | "|&":
                pass
            case _:
                self._is_chained = False

    def _apply(self, words: list[str], *, is_optional: bool) -> None:
        """Apply a command's effects on the script's variables and blocks."""
        match words[0]:
            case "for" | "select" if len(words) > 1:
                self._variables.pop(words[1], None)
                self._open_block("done", is_optional=False)
            case "unset" | "read":
                for word in words[1:]:
                    self._variables.pop(word, None)
            case name if name in _DECLARE:
                for word in words[1:]:
                    if matched := _ASSIGNMENT.fullmatch(word):
                        self._assign(matched, is_optional=is_optional)
            case _:
                pass

    def _assign(self, matched: "re.Match[str]", *, is_optional: bool) -> None:
        if is_optional or "+=" in matched[0][: matched.end(1) + 2]:
            self._variables.pop(matched[1], None)
        else:
            self._variables[matched[1]] = matched[2]

    def _expand(self, word: str) -> list[str]:
        """Remove a word's quotes and replace known variables; split it as the shell does."""
        parts: list[str] = []
        for segment in _SEGMENT.findall(word):
            match segment[0]:
                case "'":
                    parts.append(segment[1:-1])
                case '"':
                    parts.append(
                        self._replace_variables(re.sub(r"\\([\"\\$`])", r"\1", segment[1:-1]))
                    )
                case "\\":
                    parts.append(segment[1:])
                case _:
                    parts.append(self._replace_variables(segment))
        text = "".join(parts)
        is_split = _VARIABLE.fullmatch(word) and text != word
        return (text.split() or [""]) if is_split else [text]

    def _replace_variables(self, text: str) -> str:
        def value(matched: "re.Match[str]") -> str:
            return self._variables.get(matched[1] or matched[2], matched[0])

        return _VARIABLE.sub(value, text)


def _change_folder(cwd: str | None, folder: str) -> str | None:
    if folder in ("~/sky_workdir", "$HOME/sky_workdir", "${HOME}/sky_workdir"):
        return ""
    if "$" in folder or folder.startswith(("/", "~", "-", "`")) or cwd is None:
        return None
    return str(PurePosixPath(cwd) / folder)


def _without_heredocs(text: str) -> str:
    kept: list[str] = []
    until = ""
    for line in text.splitlines():
        if until:
            until = "" if line.strip() == until else until
            continue
        kept.append(line)
        matched = _HEREDOC.search(line)
        if matched:
            until = matched[1]
    return "\n".join(kept)
