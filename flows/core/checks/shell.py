"""Read the simple commands of a shell script, without running it."""

import re
from collections.abc import Iterator, Mapping
from typing import Final

from flows.core.checks.pipes import Pipes, substitutions
from flows.core.checks.shell_blocks import Block, Paren, ReadScript, Shared
from flows.core.checks.shell_command import Folders, ShellCommand
from flows.core.checks.shell_text import ShellText
from flows.core.checks.shell_words import QUOTED, Variables, fill_loops
from flows.core.checks.wrappers import SHELLS, inner_script, script_file

_ARITHMETIC: Final = r"\(\((?:[^()]|\([^()]*\))*\)\)"
_TOKEN: Final = re.compile(
    r"(?P<space>[ \t\r]+)"
    r"|(?P<comment>\#[^\n]*)"
    r"|(?P<redirect>(?:\d+|&)?(?:>>|>\||>&|<<<|<<-?|<&|<>|[<>]))"
    rf"|(?P<arithmetic>{_ARITHMETIC})"
    r"|(?P<operator>\n|;;|&&|\|\||\|&|[;&|()])"
    rf"|(?P<word>(?:{QUOTED}|\$\{{[^}}]*\}}|\${_ARITHMETIC}|[^\s;&|()<>'\"\\])+)",
    re.DOTALL,
)
_ASSIGNMENT: Final = re.compile(r"([A-Za-z_]\w*)\+?=(.*)", re.DOTALL)
_SKIPPED: Final = frozenset({"!", "time", "exec", "then", "else", "elif", "do"})
_DECLARE: Final = frozenset({"export", "declare", "local", "readonly", "typeset"})
_TESTS: Final = frozenset({"test", "[", "[[", "command", "which", "type", "grep", "diff", "cmp"})
"""Commands that test something, so that commands after ``&&`` may not run."""


_DEEPEST: Final = 4
"""How many levels of scripts within scripts are read."""


def read_commands(
    text: str, variables: Mapping[str, str], read_script: ReadScript | None = None
) -> list[ShellCommand]:
    """Read the commands of a script in order; skip those that cannot be read.

    Args:
        text: The script.
        variables: Variables that are set when it starts.
        read_script: Reads the script files that it runs; None: they are not followed.
    """
    shared = Shared(read_script)
    reader = _Reader(Variables(variables), Pipes(), shared)
    commands = list(reader.read(ShellText(text)))
    # A function's commands are read again where it is called, with its arguments.
    return [command for command in commands if command.function not in shared.called]


def read_pipes(text: str, variables: Mapping[str, str], *, pipefail: bool) -> Pipes:
    """Read the pipelines of a script.

    Args:
        text: The script.
        variables: Variables that are set when it starts.
        pipefail: Whether ``set -o pipefail`` is set then.
    """
    pipes = Pipes(pipefail=pipefail)
    for _ in _Reader(Variables(variables), pipes, Shared(None, most=0)).read(ShellText(text)):
        pass
    return pipes


class _Reader:
    """Reads one script; a reader of its own reads each script in it.

    Args:
        variables: The variables that are set when it starts.
        pipes: Follows its pipelines.
        shared: What it has in common with the readers of other scripts.
        caller: The command that runs it; None: it is the outermost one.
        cwd: The folder in which it starts.
    """

    def __init__(
        self,
        variables: Variables,
        pipes: Pipes,
        shared: Shared,
        *,
        caller: ShellCommand | None = None,
        cwd: str | None = "",
        depth: int = 0,
    ) -> None:
        self._variables = variables
        self._pipes = pipes
        self._shared = shared
        self._caller = caller
        self._depth = depth
        self.cwd: str | None = cwd
        self._folders = Folders()
        self._text = ShellText("")
        self._place = 0
        self._line: int | None = None
        self._words: list[str] = []
        self._writes: list[str] = []
        self._heredocs: list[str] = []
        self._quoted: list[str] = []
        self._blocks: list[Block] = []
        self._parens: list[Paren] = []
        self._redirect = ""
        self._last_operator = ""
        self._last_name = ""
        self._is_chained = False
        self._function: str | None = None
        self._is_named = False
        self._is_pattern = False

    def read(self, text: ShellText, *, line: int | None = None) -> Iterator[ShellCommand]:
        """Read the commands of a script.

        Args:
            text: The script.
            line: The line of all its commands; None: each has its own.
        """
        self._text = text
        self._line = line
        for token in _TOKEN.finditer(text.text):
            if token.lastgroup != "comment":
                self._pipes.see(token[0])
            match token.lastgroup:
                case "redirect":
                    self._redirect = token[0]
                case "operator":
                    yield from self._operator(token[0])
                    self._redirect = ""
                case "word":
                    self._word(token[0], token.start())
                case _:
                    continue
        yield from self._finish("\n")

    def _word(self, word: str, place: int) -> None:
        if self._redirect:
            self._redirect_to(self._variables.expand(word, self.cwd)[0])
            self._redirect = ""
        elif self._is_named:  # the name after the word `function`
            self._function, self._is_named = word, False
        elif self._words or not self._keyword(word, place):
            if not self._words:
                self._place = place
                self._variables.is_guess = False
            self._words += self._variables.expand(word, self.cwd)
            if '"' in word and "$(" in word:
                self._quoted += substitutions(word)
            if self._words[:1] == ["case"] and self._words[2:] == ["in"]:
                self._open_block(Block("esac", is_optional=True))
                self._words, self._is_pattern = [], True

    def _redirect_to(self, target: str) -> None:
        if self._redirect in ("<<", "<<-"):
            self._heredocs += [each.text for each in self._text.heredocs if each.end == target][:1]
        elif self._redirect == "<<<":
            self._heredocs.append(target)
        elif ">" in self._redirect and not re.fullmatch(r"&?\d+|-|/dev/.*", target):
            self._writes.append(target)

    def _keyword(self, word: str, place: int) -> bool:
        """Handle a first word that only affects how the others run; return whether it is one."""
        match word:
            case "if":
                self._open_block(Block("fi", is_optional=True))
            case "while" | "until":
                self._open_block(Block("done", is_optional=True))
            case "{":
                name, self._function = self._function, None
                is_function = name is not None
                self._open_block(Block("}", is_function, name or "", place + 1))
            case "fi" | "done" | "esac" | "}":
                self._close_block(word, place)
                self._is_pattern = False
            case "function":
                self._is_named = True
            case _ if word in _SKIPPED:
                pass
            case _:
                return False
        return True

    def _open_block(self, block: Block) -> None:
        self._blocks.append(block)
        self._pipes.open(is_shell=False)

    def _close_block(self, word: str, place: int) -> None:
        if not self._blocks or self._blocks[-1].end != word:
            return
        block = self._blocks.pop()
        self._pipes.close(is_command=True)
        if block.function:
            body = self._text.part(block.start, place)
            self._shared.functions[block.function] = (body, self._line)
        if block.variable:
            self._variables.end_loop(block.variable)
            if self.cwd is not None and "\x01" in self.cwd:
                self.cwd = None

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
        elif operator == "\n" and self._parens and self._parens[-1].kind == "array":
            return
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
        paren = Paren(kind, self._words, self._writes, self.cwd, self._variables.copy())
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
        items = self._words
        self._words, self._writes = [], []
        self.cwd, self._variables = paren.cwd, paren.variables
        match paren.kind:
            case "substitution":
                self._words, self._writes = paren.words, paren.writes
            case "array":
                self._set_array(paren.words[-1], items)
            case "function":
                self._function = paren.words[-1]
            case _:
                pass

    def _set_array(self, word: str, items: list[str]) -> None:
        name = word.rstrip("+=").rpartition(" ")[2]
        known = self._variables.lists.get(name) if word.endswith("+=") else []
        self._variables.forget(name)
        if known is not None and not self._is_optional:
            self._variables.lists[name] = known + items

    @property
    def _is_optional(self) -> bool:
        return self._is_chained or any(block.is_optional for block in self._blocks)

    def _finish(self, operator: str) -> Iterator[ShellCommand]:
        words, writes, heredocs, quoted = self._words, self._writes, self._heredocs, self._quoted
        self._words, self._writes, self._heredocs, self._quoted = [], [], [], []
        is_optional = self._is_optional
        while words and (matched := _ASSIGNMENT.fullmatch(words[0])):
            if len(words) == 1:
                self._assign(matched, is_optional=is_optional)
            words = words[1:]
        self._pipes.end(words, operator)
        for text in quoted:
            yield from self._run(["bash", "-c", text], [], [], is_certain=not is_optional)
        if words or writes:
            is_certain = not is_optional and operator != "||" and not self._variables.is_guess
            yield from self._run(words or [":"], writes, heredocs, is_certain=is_certain)
        if words:
            self._apply(words, is_optional=is_optional)
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

    def _run(
        self, words: list[str], writes: list[str], heredocs: list[str], *, is_certain: bool
    ) -> Iterator[ShellCommand]:
        """Give a command, once for every value of a loop, and the commands of scripts it runs."""
        caller = self._caller
        line = self._text.line_of(self._place) if self._line is None else self._line
        unknown = self.cwd is None
        for filled in fill_loops([self.cwd or "", *words], self._variables.loops):
            command = ShellCommand(
                filled[1:],
                None if unknown else filled[0],
                is_certain and (caller is None or caller.is_certain),
                tuple(writes),
                line,
                is_elsewhere=caller is not None and caller.is_elsewhere,
                function=next((block.function for block in self._blocks if block.function), "")
                or (caller.function if caller is not None else ""),
            )
            inside = self._inside(command, heredocs) if self._shared.most else None
            if self._shared.most:
                self._shared.most -= 1
            yield command._replace(is_followed=inside is not None)
            yield from inside or ()

    def _inside(self, command: ShellCommand, heredocs: list[str]) -> list[ShellCommand] | None:
        """The commands of the functions and scripts that a command runs; None: it runs none."""
        core = command.core
        if self._depth >= _DEEPEST:
            return None
        function = self._shared.functions.get(core.words[0])
        if function is not None and not any(block.function for block in self._blocks):
            self._shared.called.add(core.words[0])
            body, line = function
            return self._read_nested(core, [body], core.words[1:], line=line, is_same_shell=True)
        texts = inner_script(command.words)
        if core.name in SHELLS and not texts and script_file(command.words) is None:
            texts = heredocs
        if texts:
            is_same_shell = core.name == "eval"
            runs_later = core.name in ("trap",)
            caller = core._replace(is_certain=core.is_certain and not runs_later)
            parts = [ShellText(text) for text in texts]
            return self._read_nested(
                caller, parts, None, line=core.line, is_same_shell=is_same_shell
            )
        file = script_file(command.words)
        if file is None or self._shared.read_script is None or core.is_elsewhere:
            return None
        text = self._shared.read_script(file[0], core.cwd)
        if text is None:
            return None
        is_same_shell = core.name in ("source", ".")
        part = [ShellText(text)]
        return self._read_nested(core, part, file[1], line=core.line, is_same_shell=is_same_shell)

    def _read_nested(
        self,
        caller: ShellCommand,
        texts: list[ShellText],
        arguments: list[str] | None,
        *,
        line: int | None,
        is_same_shell: bool,
    ) -> list[ShellCommand]:
        """Read scripts that a command runs; one of the same shell changes its variables."""
        variables = self._variables if is_same_shell else self._variables.copy()
        if arguments is not None and (arguments or not is_same_shell):
            variables = variables.pass_arguments(arguments)
        found: list[ShellCommand] = []
        for text in texts:
            reader = _Reader(
                variables,
                Pipes(),
                self._shared,
                caller=caller,
                cwd=caller.cwd,
                depth=self._depth + 1,
            )
            found += reader.read(text, line=line)
            if is_same_shell and reader.cwd != self.cwd:
                self.cwd = reader.cwd if caller.is_certain else None
        return found

    def _apply(self, words: list[str], *, is_optional: bool) -> None:
        """Apply a command's effects on the script's folder, variables and blocks."""
        match words[0]:
            case "cd" | "pushd" | "popd":
                self._variables.enter_from(self.cwd)
                after = self._folders.after(words, self.cwd)
                self.cwd = None if is_optional else after
            case "for" | "select" if len(words) > 1:
                values = words[3:] if words[2:3] == ["in"] else []
                self._variables.begin_loop(words[1], values)
                self._open_block(Block("done", is_optional=False, variable=words[1]))
            case "set" if "--" in words:
                self._variables.set_arguments(words[words.index("--") + 1 :])
            case "unset" | "read":
                for word in words[1:]:
                    self._variables.forget(word)
            case name if name in _DECLARE:
                for word in words[1:]:
                    if matched := _ASSIGNMENT.fullmatch(word):
                        self._assign(matched, is_optional=is_optional)
            case _:
                pass

    def _assign(self, matched: "re.Match[str]", *, is_optional: bool) -> None:
        if is_optional or "+=" in matched[0][: matched.end(1) + 2]:
            self._variables.forget(matched[1])
        else:
            self._variables.set(matched[1], matched[2])
