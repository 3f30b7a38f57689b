"""One simple command of a shell script, and the folders that commands change to."""

import posixpath
import re
from typing import NamedTuple

from flows.core.checks.shell_words import from_start, write_home
from flows.core.checks.wrappers import base_name, unwrap


class ShellCommand(NamedTuple):
    """One simple command of a script, with its known variables replaced."""

    words: list[str]
    cwd: str | None
    """The folder it runs in: absolute, or relative to the script's first folder; None: unknown."""
    is_certain: bool = True
    """Whether it runs if earlier commands succeed, and the script fails if it does."""
    writes: tuple[str, ...] = ()
    """The files its output is redirected to."""
    line: int = 0
    """The index of its line in the script."""
    is_elsewhere: bool = False
    """Whether it runs in another file system, such as a container's."""
    is_followed: bool = False
    """Whether it runs a script whose commands come after it."""
    function: str = ""
    """The function that has it."""

    @property
    def name(self) -> str:
        """The command without its folder."""
        return base_name(self.words[0])

    @property
    def core(self) -> "ShellCommand":
        """The command without those that only run it, such as ``env``."""
        wrapped = unwrap(self.words)
        if not wrapped.words:
            return self
        cwd = change_folder(self.cwd, wrapped.folder) if wrapped.folder else self.cwd
        is_elsewhere = self.is_elsewhere or wrapped.is_elsewhere
        return self._replace(words=wrapped.words, cwd=cwd, is_elsewhere=is_elsewhere)


class Folders:
    """The folders that ``cd -``, ``pushd`` and ``popd`` go back to."""

    def __init__(self) -> None:
        self._last: str | None = None
        self._pushed: list[str | None] = []

    def after(self, words: list[str], cwd: str | None) -> str | None:
        """The folder after a ``cd``, ``pushd`` or ``popd``; None if unknown.

        Args:
            words: The command.
            cwd: The folder before it.
        """
        arguments = [word for word in words[1:] if word not in ("-P", "-L", "-e", "--")]
        last, self._last = self._last, cwd
        if words[0] == "popd" or (words[0] == "pushd" and not arguments):
            after = self._pushed.pop() if self._pushed else None
        elif arguments[:1] == ["-"]:
            after = last
        else:
            after = change_folder(cwd, arguments[0] if arguments else "~")
        if words[0] == "pushd":
            self._pushed.append(cwd)
        return after


def change_folder(cwd: str | None, folder: str) -> str | None:
    """The folder after ``cd``; None if unknown."""
    below = from_start(folder)
    cwd, folder = ("", below) if below is not None else (cwd, write_home(folder))
    if re.search(r"[$`*?]", folder):
        return None
    if folder.startswith(("/", "~")):
        return posixpath.normpath(folder)
    if cwd is None or folder.startswith("-"):
        return None
    joined = posixpath.normpath(posixpath.join(cwd, folder))
    return "" if joined == "." else joined
