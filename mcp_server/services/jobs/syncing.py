"""Previews which files of this machine a job on a cloud gets."""

import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, cast

from pydantic import Field

from flows.core.configs.clouds import CloudKind, Copying
from flows.core.configs.reader import read_config
from flows.core.errors import OumiFlowsError
from flows.core.file_names import exists, is_file, is_folder
from flows.core.models import Value

_SECONDS: Final = 10.0
_MOST_FILES: Final = 200_000
_MOST_CONFIGS: Final = 20
_MOST_LEFT_OUT: Final = 20
_WORD: Final = re.compile(r"""[^\s"'`=:;,|&<>(){}\[\]$]+""")


class SyncPreview(Value):
    """The files that are copied to the cluster before the job starts there."""

    files: int | None = Field(default=None, description="Null: not counted; note says why.")
    bytes: int | None = None
    left_out_but_used: list[str] = Field(
        default_factory=list[str],
        description="Files the job refers to that are ignored and so not copied.",
    )
    note: str = ""


def preview(job_config: Mapping[str, Any], *, kind: CloudKind) -> SyncPreview | None:
    """Preview the copy of `working_dir` and `file_mounts`; None if the job runs here.

    Run rsync itself, without copying, with the rules of the cloud's launcher.

    Args:
        job_config: The job config that is launched, its paths absolute.
        kind: Kind of the cloud.
    """
    if kind.is_local:
        return None
    if kind.copying is Copying.NOTHING:
        cloud = job_config["resources"]["cloud"]
        return SyncPreview(files=0, bytes=0, note=f"Oumi copies no files to {cloud}.")
    working_dir = str(job_config["working_dir"])
    mounts = cast("Mapping[str, str]", job_config.get("file_mounts") or {})
    sources = [working_dir, *(path for path in mounts.values() if "://" not in path)]
    total, copied = 0, set[str]()
    try:
        for number, source in enumerate(sources):
            for name, size in _list_copied(source, kind):
                total += size
                copied.add(name if number == 0 else f"{number}:{name}")
    except FileNotFoundError:
        return SyncPreview(note="Not counted: rsync is not installed here.")
    except (subprocess.SubprocessError, OSError) as error:
        return SyncPreview(note=f"Not counted: {_why(error)}.")
    left_out = sorted(_used_paths(job_config, Path(working_dir)) - copied)
    return SyncPreview(
        files=sum(not name.endswith("/") for name in copied),
        bytes=total,
        left_out_but_used=[name.rstrip("/") for name in left_out[:_MOST_LEFT_OUT]],
    )


def _list_copied(source: str, kind: CloudKind) -> Iterator[tuple[str, int]]:
    """List each file and folder that rsync would copy, folders with a slash at their end."""
    folder = Path(source)
    with tempfile.TemporaryDirectory() as empty:
        done = subprocess.run(
            [
                *("rsync", "--archive", "--dry-run", "--out-format=%l %n"),
                *_rules(folder, kind),
                "--",
                source if not is_folder(folder) else f"{source.rstrip('/')}/",
                f"{empty}/",
            ],
            capture_output=True,
            timeout=_SECONDS,
            check=True,
        )
    lines = done.stdout.decode(errors="replace").splitlines()
    if len(lines) > _MOST_FILES:
        raise OSError(f"more than {_MOST_FILES:,} files")
    for line in lines:
        size, _, name = line.partition(" ")
        if name != "./":
            yield name, 0 if name.endswith("/") else int(size)


def _rules(folder: Path, kind: CloudKind) -> list[str]:
    if kind.copying is Copying.SKYPILOT:
        # sky/utils/command_runner.py, `_rsync` (skypilot 0.12).
        if exists(folder / ".skyignore"):
            return ["--filter=dir-merge,- .skyignore"]
        excluded = folder / ".git" / "info" / "exclude"
        more = [f"--exclude-from={excluded}"] if exists(excluded) else []
        return ["--filter=dir-merge,- .gitignore", *more]
    if kind.copying is Copying.GITIGNORE_FILTER:
        return ["--filter=:- .gitignore"]
    # `put_recursive` of Oumi's clients (oumi 0.9).
    ignored = folder / ".gitignore"
    return [f"--exclude-from={ignored}"] if is_file(ignored) else []


def _used_paths(job_config: Mapping[str, Any], folder: Path) -> set[str]:
    """Find the paths below `folder` in the scripts and in the configs they name."""
    scripts = [str(job_config.get(part) or "") for part in ("setup", "run")]
    words = {word for script in scripts for word in _WORD.findall(script)}
    used = set(_below(words, folder))
    configs = [name for name in sorted(used) if name.endswith((".yaml", ".yml"))]
    for name in configs[:_MOST_CONFIGS]:
        try:
            data = read_config(folder / name).data
        except OumiFlowsError:
            continue
        used.update(_below(set(_texts(data)), folder))
    return used


def _below(words: set[str], folder: Path) -> Iterator[str]:
    for word in words:
        if word.startswith(("/", "~", "-")) or len(word) > 1000 or "\0" in word:
            continue
        parts = Path(word).parts
        if not parts or ".." in parts:
            continue
        path = folder.joinpath(*parts)
        try:
            if exists(path):
                name = "/".join(parts)
                yield f"{name}/" if is_folder(path) and not path.is_symlink() else name
        except OSError:
            continue


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in cast("dict[object, object]", value).values():
            yield from _texts(item)
    elif isinstance(value, list):
        for item in cast("list[object]", value):
            yield from _texts(item)


def _why(error: Exception) -> str:
    if isinstance(error, subprocess.TimeoutExpired):
        return f"it takes longer than {_SECONDS:g} s"
    if isinstance(error, subprocess.CalledProcessError):
        last = cast(bytes, error.stderr).decode(errors="replace").strip().splitlines()[-1:]
        return f"rsync failed: {' '.join(last)[:200]}"
    return str(error)
