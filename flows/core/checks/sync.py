"""Find the files of a working folder that the launcher copies to the target."""

import fnmatch
import os
import re
import time
from pathlib import Path, PurePosixPath
from typing import Final

from flows.core.checks.job import Job
from flows.core.configs.clouds import Copying
from flows.core.file_names import is_file, is_folder
from flows.core.findings import FindingCode
from flows.core.git_files import IgnoreRules, find_repository
from flows.core.regular_files import read_regular_file

_SIZE_SECONDS: Final = 0.2
_RULES_BYTES: Final = 1_000_000
_BIG_BYTES: Final = 1_000_000_000


class Sync:
    """The files of a job's working folder that are copied to its target.

    Args:
        job: The job config.
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        self._folder = job.working_dir

    def leaves_out(self, path: Path) -> str:
        """Say why a file of this machine is not copied to the target; empty if it is."""
        kind = self._job.target.kind
        if kind is not None and kind.is_local:
            return ""
        try:
            relative = path.relative_to(self._folder)
        except ValueError:
            return f"is outside working_dir {self._folder}"
        match kind.copying if kind is not None else Copying.NOTHING:
            case Copying.SKYPILOT if is_file(self._folder / ".skyignore"):
                return self._left_out_by_skyignore(relative)
            case Copying.SKYPILOT:
                return self._left_out_by_git(relative)
            case Copying.GITIGNORE_FILTER:
                return self._left_out_by_rsync(relative)
            case _:
                return ""

    def check_size(self) -> None:
        """Note a working folder that takes a long time to copy."""
        if self._job.target.is_local or not is_folder(self._folder):
            return
        size = self._size(self._folder)
        if size > _BIG_BYTES:
            self._job.notes.warning(
                FindingCode.BIG_WORKING_DIR,
                f"working_dir {self._folder} is {size / 1e9:.1f} GB or more, all of which is "
                "copied at every launch",
                "Exclude what the job does not need in a .skyignore file",
                key="working_dir",
            )

    def _left_out_by_skyignore(self, relative: Path) -> str:
        # SkyPilot 0.12 reads each line as a glob; unlike in a .gitignore, `!` has no meaning.
        for line in _lines(self._folder / ".skyignore"):
            if _matches(relative, line):
                return f"is excluded by the line {line!r} of .skyignore"
        return ""

    def _left_out_by_git(self, relative: Path) -> str:
        """Say why Git ignores a file; SkyPilot 0.12 copies all others, tracked or not."""
        repository = find_repository(self._folder)
        if repository is None:
            return ""  # SkyPilot also ignores a .gitignore there
        name = (self._folder.resolve() / relative).relative_to(repository.top).as_posix()
        rule = IgnoreRules(repository).find(os.path.normpath(name))
        return f"is ignored by git ({rule.place}:{rule.pattern})" if rule else ""

    def _left_out_by_rsync(self, relative: Path) -> str:
        # Whether git tracks a file does not matter here. The rule `:- .gitignore` reads the file
        # of each folder on the way, for what is below it.
        for above in reversed(relative.parents):
            for line in _lines(self._folder / above / ".gitignore"):
                if _matches(relative.relative_to(above), line):
                    return f"is excluded by the line {line!r} of {above / '.gitignore'}"
        return ""

    def _size(self, folder: Path) -> int:
        """Count the bytes to copy, within a time limit."""
        ignored = _lines(folder / ".skyignore") or _lines(folder / ".gitignore")
        names = [line.strip("/") for line in ignored if "/" not in line.strip("/")]
        left_out = re.compile("|".join(map(fnmatch.translate, [*names, ".git"])))
        total = 0
        until = time.monotonic() + _SIZE_SECONDS
        pending = [str(folder)]
        while pending and time.monotonic() < until:
            try:
                with os.scandir(pending.pop()) as entries:
                    for entry in entries:
                        if left_out.match(entry.name):
                            continue
                        if entry.is_dir(follow_symlinks=False):
                            pending.append(entry.path)
                        else:
                            total += entry.stat(follow_symlinks=False).st_size
            except OSError:
                continue
        return total


def _lines(path: Path) -> list[str]:
    try:
        text = read_regular_file(path, limit=_RULES_BYTES).decode(errors="replace")
    except OSError:
        return []
    lines = [line.strip() for line in text.splitlines()]
    return [line for line in lines if line and not line.startswith(("#", "!"))]


def _matches(relative: Path, pattern: str) -> bool:
    """Whether an ignore pattern matches a file, or a folder that it is in."""
    parts = PurePosixPath(relative).parts
    wanted = PurePosixPath(pattern.strip("/").removeprefix("./")).parts
    is_anchored = pattern.startswith("/")
    for end in range(len(wanted), len(parts) + 1 if wanted else 0):
        if is_anchored and end > len(wanted):
            return False
        if all(map(_is_name, parts[end - len(wanted) : end], wanted)):
            return True
    return False


def _is_name(name: str, pattern: str) -> bool:
    # As in a shell, a star matches no hidden file.
    is_hidden = name.startswith(".") and not pattern.startswith(".")
    return not is_hidden and fnmatch.fnmatchcase(name, pattern)
