"""Check the scripts of a job config: their syntax, and the commands and files that they name."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from flows.core.checks.job import Job
from flows.core.checks.script import MadeFiles, Script
from flows.core.checks.shell_command import ShellCommand
from flows.core.checks.shell_words import from_start
from flows.core.checks.wrappers import inner_script, script_file
from flows.core.file_names import exists, is_folder
from flows.core.findings import FindingCode, Severity

_SYNTAX_SECONDS: Final = 2.0
_SYNTAX_ERROR: Final = 2
"""The exit status of ``bash -n`` (5.2) after a syntax error."""
_MESSAGE: Final = re.compile(r"/dev/stdin: (?:line (\d+): )?(.*)")
_PROGRAM: Final = re.compile(r"(?:python[\d.]*|torchrun)$")
_UNKNOWN: Final = re.compile(r"[$`*?{<\[]|^~|^-")


class SyntaxProblem(NamedTuple):
    """What bash cannot read in a script, and the index of the line."""

    message: str
    line: int


def check_scripts(job: Job) -> None:
    """Note what makes the scripts of a job fail whatever the machine."""
    made = MadeFiles()
    for key, script in (("setup", job.setup), ("run", job.run)):
        problem = syntax_problem(script.text)
        if problem is not None:
            job.notes.add(
                Severity.ERROR,
                FindingCode.BROKEN_SCRIPT,
                f"{key} is not a bash script: {problem.message}",
                "Correct its quotes, brackets and blocks; `bash -n` shows the place",
                key=key,
                script_line=problem.line,
            )
        _check_inner(job, key, script)
        for wrong in script.wrong_calls():
            job.notes.add(
                Severity.ERROR if wrong.is_certain else Severity.WARNING,
                FindingCode.UNKNOWN_COMMAND,
                f"in {key}: {wrong.message}",
                "" if wrong.nearest else wrong.fix,
                key=key,
                nearest=wrong.nearest,
                script_line=wrong.line,
            )
        _check_files(job, key, script, made)
        made = made.plus(script.made_files())


def syntax_problem(text: str) -> SyntaxProblem | None:
    """Let bash read a script without running it; None if it can, or if bash cannot be asked."""
    bash = shutil.which("bash")
    is_other = re.match(r"#!(?!.*\b(?:ba|da|k)?sh\b)", text)
    if not text.strip() or bash is None or is_other:
        return None
    try:
        done = subprocess.run(
            # Scripts that turn extglob on are read as if it were on.
            [bash, "-O", "extglob", "-n", "/dev/stdin"],
            input=f"{text}\n",
            capture_output=True,
            text=True,
            timeout=_SYNTAX_SECONDS,
            check=False,
            env={"LC_ALL": "C", "PATH": "/usr/bin:/bin"},
        )
    except (OSError, subprocess.TimeoutExpired, ValueError):
        return None
    matched = _MESSAGE.search(done.stderr)
    if done.returncode != _SYNTAX_ERROR or matched is None:
        return None
    # A block that is never closed is reported after the last line.
    last = len(text.rstrip().splitlines()) - 1
    return SyntaxProblem(matched[2], min(int(matched[1] or 1) - 1, last))


def _check_inner(job: Job, key: str, script: Script) -> None:
    """Note a script in an argument, such as that of ``bash -c``, which bash cannot read."""
    for command in script.commands:
        if command.core.name not in ("bash", "eval") or not command.is_certain:
            continue
        for text in inner_script(command.words):
            problem = syntax_problem(text) if "$" not in text else None
            if problem is not None:
                job.notes.add(
                    Severity.ERROR,
                    FindingCode.BROKEN_SCRIPT,
                    f"{key} gives `{command.core.name}` a script that is none: {problem.message}",
                    "Correct its quotes, brackets and blocks",
                    key=key,
                    script_line=command.line,
                )


def _check_files(job: Job, key: str, script: Script, before: MadeFiles) -> None:
    """Note files that a script runs or reads, and that are nowhere."""
    if not is_folder(job.working_dir):
        return
    for index, command in enumerate(script.commands):
        core = command.core
        for what, name in _files_needed(core):
            path = _path(job, core, name)
            if path is None or core.is_elsewhere or exists(path) or command.is_followed:
                continue
            made = job.here(before.plus(script.made_files(before=index)))
            if made.may_have(str(path)) or made.has_folder_of(str(path)):
                continue
            job.notes.add(
                Severity.ERROR if core.is_certain else Severity.WARNING,
                FindingCode.PATH_NOT_FOUND,
                f"{key} runs `{what} {name}`, but {path} does not exist",
                "Correct the path; a relative one starts from working_dir",
                key=key,
                script_line=core.line,
            )


def _files_needed(core: ShellCommand) -> Iterator[tuple[str, str]]:
    """The scripts that a command reads, each with what reads it."""
    file = script_file(core.words)
    if file is not None:
        yield ("" if file[0] == core.words[0] else core.name), file[0]
    elif _PROGRAM.match(core.name):
        program = _program(core.words[1:])
        if program:
            yield core.name, program


def _program(arguments: list[str]) -> str:
    """The file that an interpreter runs; empty if it runs none, or it is unclear."""
    for argument in arguments:
        if argument in ("-m", "-c", "--module"):
            return ""
        if argument.endswith(".py") and not argument.startswith("-"):
            return argument
    return ""


def _path(job: Job, core: ShellCommand, name: str) -> Path | None:
    """The path on this machine of a file that a script names; None if it is unknown."""
    below = from_start(name)
    if below is not None:
        return job.working_dir / below
    if _UNKNOWN.search(name) or (name.startswith("/") and not job.target.is_local):
        return None
    if core.cwd is None or (core.cwd.startswith(("/", "~")) and not job.target.is_local):
        return None
    # Without a slash, `source` also looks in PATH.
    if core.name in ("source", ".") and "/" not in name and "." not in name:
        return None
    folder = job.folder(core.cwd)
    return None if folder is None else folder / name
