"""A shell completes commands, options, their values and files."""

import os
import shutil
import subprocess

import pytest

from tests.cli.conftest import Terminal
from tests.support.stack import OUMI_FLOWS


def complete(*words: str) -> list[str]:
    asked = {
        "_OUMI_FLOWS_COMPLETE": "bash_complete",
        "COMP_WORDS": " ".join(words),
        "COMP_CWORD": str(len(words) - 1),
    }
    done = subprocess.run(
        [str(OUMI_FLOWS)],
        env={**os.environ, **asked},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("oumi-flows", "diag"), ["plain,diagnose"]),
        (("oumi-flows", "jobs", "--sta"), ["plain,--status"]),
        (("oumi-flows", "jobs", "--status", "canc"), ["plain,cancelled", "plain,cancelling"]),
        (("oumi-flows", "run", "tr"), ["file,tr"]),
    ],
)
def test_a_word_is_completed(words: tuple[str, ...], expected: list[str]) -> None:
    assert complete(*words) == expected


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_a_script_that_it_can_read(terminal: Terminal, shell: str) -> None:
    done = terminal("completion", shell)
    assert done.code == 0
    assert "_OUMI_FLOWS_COMPLETE" in done.out
    if program := shutil.which(shell):
        subprocess.run([program, "-n"], input=done.out, text=True, timeout=30, check=True)


def test_another_shell_is_refused(terminal: Terminal) -> None:
    assert terminal("completion", "tcsh").code == 2
