"""The files that jobs leave under OUMI_FLOWS_HOME, found by age; no models and checkpoints.

=====================================  ======================================================
``local/CLUSTER/jobs/LAUNCH KEY/``     a local job: its script, log and training record
``jobs/LAUNCH KEY/``                   the copied log of a job on a cluster
``sky/CLUSTER/LAUNCH KEY.launch.log``  SkyPilot's log of a launch
``private-envs/DIGEST``                the value of a secret variable
=====================================  ======================================================
"""

import os
import re
import shutil
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from flows.core.private_envs import KEY_FILE
from flows.core.settings import Settings

_RUN_OF_KEY: Final = re.compile(r"oumi-(?P<run>[0-9a-f]{32})-\d+(\.launch\.log)?")
_ENDED: Final = "exit.json"


class OldFiles(NamedTuple):
    """A folder or file that is no longer needed, and its size in bytes."""

    path: Path
    size: int


def find_old_files(
    settings: Settings,
    *,
    ended_before: float,
    live: Collection[str],
    used_envs: Collection[str] = (),
) -> list[OldFiles]:
    """Find the files of jobs that ended before a time.

    A file that a job or a person wrote to since then is not old.

    Args:
        settings: Where the files are.
        ended_before: Time in seconds since the epoch.
        live: Ids of the flow runs that have not ended, as 32 hexadecimal digits.
        used_envs: Digests of the secret variables that schedules or live runs refer to.
    """
    paths = [
        *(path for path in _local_jobs(settings.local_dir) if (path / _ENDED).is_file()),
        *_entries(settings.jobs_dir),
        *(log for cluster in _entries(settings.home / "sky") for log in _entries(cluster)),
    ]
    old = [path for path in paths if _run_of(path) not in live]
    old += [
        path
        for path in _entries(settings.private_envs_dir)
        if path.name != KEY_FILE and path.name not in used_envs
    ]
    found = (_measure(path) for path in old)
    return [files for files, changed in found if changed < ended_before]


def delete_files(old: Iterable[OldFiles]) -> None:
    """Delete old files; what cannot be deleted stays for the next time."""
    for path, _ in old:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with suppress(OSError):
                path.unlink()


def _local_jobs(folder: Path) -> Iterator[Path]:
    for cluster in _entries(folder):
        yield from _entries(cluster / "jobs")


def _entries(folder: Path) -> list[Path]:
    """The entries of a folder, without hidden ones; none if there is no such folder."""
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _run_of(path: Path) -> str:
    matched = _RUN_OF_KEY.fullmatch(path.name)
    return matched["run"] if matched else ""


def _measure(path: Path) -> tuple[OldFiles, float]:
    """The size of a file or of a folder with all below it, and the time of the last change."""
    size, changed = 0, 0.0
    for entry in (
        path,
        *(Path(folder, name) for folder, _, names in os.walk(path) for name in names),
    ):
        with suppress(OSError):
            status = entry.lstat()
            size += status.st_size
            changed = max(changed, status.st_mtime)
    return OldFiles(path, size), changed
