"""Git's files read without Git: where a repository is, and which files its rules ignore.

The command ``git`` executes what a repository's own configuration names: ``core.fsmonitor``,
filters, text conversions, hooks. Nothing is executed here, so any user's folder is safe to
read. Only regular files are read, up to a size limit.
"""

import io
import os
import re
import stat
import struct
import zlib
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from flows.core.file_names import is_file, is_folder
from flows.core.regular_files import open_regular_file, read_regular_file

if TYPE_CHECKING:
    from dulwich.config import ConfigFile
    from dulwich.ignore import Pattern
    from dulwich.index import IndexEntry

_POINTER_BYTES: Final = 4096
_RULES_BYTES: Final = 1_000_000
_INDEX_BYTES: Final = 64_000_000
_STARS: Final = re.compile(rb"\*+")
_MOST_STARS: Final = 5
"""Rules with more stars are skipped: matching takes exponential time in their number."""

BROKEN: Final = (
    ArithmeticError,
    AssertionError,
    LookupError,
    NotImplementedError,
    OSError,
    RuntimeError,
    ValueError,
    struct.error,
    zlib.error,
)
"""Exceptions of dulwich 1.2 for files of a repository that are damaged or of an unknown kind."""


class Repository(NamedTuple):
    """A Git repository with files.

    Attributes:
        top: Absolute folder of its files.
        folder: Where the index and HEAD are.
        common: The folder that all its work trees share.
    """

    top: Path
    folder: Path
    common: Path


class Rule(NamedTuple):
    """An ignore rule.

    Attributes:
        place: File and line.
        pattern: What dulwich made of the line.
    """

    place: str
    pattern: "Pattern"


def find_repository(folder: Path) -> Repository | None:
    """The repository that `folder` is in; None if it is in none."""
    try:
        folder = folder.resolve()
    except (OSError, RuntimeError):
        return None
    for top in (folder, *folder.parents):
        found = _git_folder(top / ".git")
        if found is not None and is_file(found / "HEAD"):
            shared = _pointer(found / "commondir")
            common = found if shared is None else Path(os.path.normpath(found / shared))
            if is_folder(common / "objects"):
                return Repository(top, found, common)
    return None


class IgnoreRules:
    """Decides which files of a repository Git ignores, as ``git check-ignore`` does.

    Args:
        repository: The repository.
        home: The person's home folder, where Git's settings are; None: the system's.
    """

    def __init__(self, repository: Repository, *, home: Path | None = None) -> None:
        self._repository = repository
        self._home = home or Path.home()
        self._of_folder: dict[str, list[Rule]] = {}

    def find(self, name: str) -> Rule | None:
        """The rule that ignores a file or folder; None if it is not ignored.

        Args:
            name: Its path from the top, with slashes; a folder's ends without one.
        """
        if not name or name == "." or self._is_tracked(name):
            return None
        parts = name.split("/")
        for end in range(1, len(parts) + 1):
            rule = self._last_match(parts[:end], is_folder=end < len(parts) or self._is_dir(name))
            if rule is not None and rule.pattern.is_exclude:
                return rule
        return None

    def ignores(self, name: str, *, is_folder: bool) -> bool:
        """Whether rules ignore an entry of a folder that is not ignored, tracked or not."""
        rule = self._last_match(name.split("/"), is_folder=is_folder)
        return rule is not None and rule.pattern.is_exclude

    def _last_match(self, parts: list[str], *, is_folder: bool) -> Rule | None:
        """The rule that decides: the last match in the deepest file of rules with a match."""
        for depth in range(len(parts) - 1, -1, -1):
            found = _match(self._rules_in("/".join(parts[:depth])), parts[depth:], is_folder)
            if found is not None:
                return found
        return _match(self._exclude, parts, is_folder) or _match(self._own, parts, is_folder)

    def _rules_in(self, folder: str) -> list[Rule]:
        if folder not in self._of_folder:
            name = f"{folder}/.gitignore" if folder else ".gitignore"
            # Git takes no rules from a symbolic link inside the files.
            path = self._repository.top / name
            self._of_folder[folder] = self._rules(path, name, follow_link=False)
        return self._of_folder[folder]

    @cached_property
    def _exclude(self) -> list[Rule]:
        path = self._repository.common / "info" / "exclude"
        return self._rules(path, ".git/info/exclude")

    @cached_property
    def _own(self) -> list[Rule]:
        path = self._setting(b"excludesfile")
        if path is None:
            base = os.environ.get("XDG_CONFIG_HOME") or self._home / ".config"
            named = Path(base) / "git" / "ignore"
        else:
            text = os.fsdecode(path)
            named = self._home / text[2:] if text.startswith("~/") else Path(text)
        return self._rules(self._repository.top / named, str(named))

    @cached_property
    def _ignores_case(self) -> bool:
        said = self._setting(b"ignorecase")
        return said is not None and said.lower() in (b"", b"true", b"yes", b"on", b"1")

    def _setting(self, name: bytes) -> bytes | None:
        """The value of a key of the section ``core``; the last file that sets it wins."""
        for config in self._configs:
            try:
                return config.get((b"core",), name)
            except KeyError:
                continue
        return None

    @cached_property
    def _configs(self) -> "list[ConfigFile]":
        xdg = Path(os.environ.get("XDG_CONFIG_HOME") or self._home / ".config")
        paths = (
            self._repository.common / "config",
            self._home / ".gitconfig",
            xdg / "git" / "config",
            Path("/etc/gitconfig"),
        )
        return [config for path in paths if (config := _read_config(path)) is not None]

    @cached_property
    def _tracked_names(self) -> set[str]:
        """The names in the index, and the folders they are in."""
        names: set[str] = set()
        try:
            index = read_index(self._repository)
        except BROKEN:
            return names
        for raw in index:
            name = os.fsdecode(raw)
            while name and name not in names:
                names.add(name)
                name = name.rpartition("/")[0]
        return names

    def _is_tracked(self, name: str) -> bool:
        return name in self._tracked_names

    def _is_dir(self, name: str) -> bool:
        try:
            return stat.S_ISDIR((self._repository.top / name).lstat().st_mode)
        except (OSError, ValueError):
            return False

    def _rules(self, path: Path, name: str, *, follow_link: bool = True) -> list[Rule]:
        try:
            content = read_regular_file(path, limit=_RULES_BYTES, follow_link=follow_link)
        except (OSError, ValueError):
            return []
        return list(_parse_rules(content, name, ignores_case=self._ignores_case))


def read_index(repository: Repository) -> "dict[bytes, IndexEntry | None]":
    """The tracked files by their path from the top; None for a file in conflict.

    Raises:
        Exception: One of `BROKEN`.
    """
    from dulwich.index import IndexEntry, read_index_dict_with_version

    content = read_regular_file(repository.folder / "index", limit=_INDEX_BYTES)
    entries = read_index_dict_with_version(io.BytesIO(content))[0]
    return {
        name: entry if isinstance(entry, IndexEntry) else None for name, entry in entries.items()
    }


def _match(rules: list[Rule], parts: list[str], is_folder: bool) -> Rule | None:  # noqa: FBT001
    name = os.fsencode("/".join(parts))
    return next((rule for rule in reversed(rules) if rule.pattern.matches(name, is_folder)), None)


def _parse_rules(content: bytes, name: str, *, ignores_case: bool) -> Iterator[Rule]:
    from dulwich.ignore import Pattern, read_ignore_patterns
    from dulwich.wildmatch import MalformedPattern

    lines = content.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    for number, line in enumerate(lines, start=1):
        for text in read_ignore_patterns(io.BytesIO(line)):
            if len(_STARS.findall(text)) > _MOST_STARS:
                continue
            try:
                yield Rule(f"{name}:{number}", Pattern(text, ignores_case))
            except (MalformedPattern, re.error):
                continue


def _read_config(path: Path) -> "ConfigFile | None":
    from dulwich.config import ConfigFile

    def read(name: str | os.PathLike[str]) -> io.BytesIO:
        return io.BytesIO(read_regular_file(name, limit=_RULES_BYTES))

    try:
        return ConfigFile.from_file(read(path), config_dir=str(path.parent), file_opener=read)
    except BROKEN:
        return None


def _git_folder(path: Path) -> Path | None:
    """The folder ``.git``, or the folder that it names in a linked work tree or a submodule."""
    if is_folder(path):
        return path
    said = _pointer(path)
    if said is None or not said.startswith("gitdir: "):
        return None
    return Path(os.path.normpath(path.parent / said.removeprefix("gitdir: ")))


def _pointer(path: Path) -> str | None:
    """The one line of a file that names a folder."""
    try:
        with open_regular_file(path) as file:
            return os.fsdecode(file.read(_POINTER_BYTES)).rstrip("\r\n")
    except (OSError, ValueError):
        return None
