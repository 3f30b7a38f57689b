"""A job config as it would be launched: its target, its scripts and its mounts."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

from flows.core.checks.notes import Notes
from flows.core.checks.script import MadeFiles, OumiCall, Script
from flows.core.checks.shell_words import from_start
from flows.core.checks.target import Target, parse_accelerator
from flows.core.checks.values import mapping_of, number_of, text_of
from flows.core.configs.checks import MISSING
from flows.core.file_names import expand_home
from flows.core.names import LOCAL_CLOUD
from flows.core.regular_files import read_regular_file

REMOTE_SCHEMES: Final = ("s3://", "gs://", "r2://", "https://", "http://", "cos://", "oci://",
                         "nebius://", "cw://", "vastdata://", "skypilot:")  # fmt: skip

_SCRIPT_BYTES: Final = 200_000

_ENVIRONMENT: Final = re.compile(
    r"(?:^|[\s;&|(])(?:\.|source|eval) |activate|\b(?:conda|mamba|micromamba|pixi|poetry|pipenv"
    r"|pdm|direnv|dotenv|docker|podman|apptainer|singularity|enroot|srun|ssh)\b|module load"
    r"|spack load|\buv (?:run|sync)\b|bin/(?:python|oumi|pip)|requirements|environment\.y|\.sh\b"
    r"|\bmake ",
    re.MULTILINE,
)


@dataclass(frozen=True)
class Job:
    """A job config.

    Attributes:
        working_dir: The folder on this machine that is copied to the target.
        client_cwd: Where relative paths of the job config start from.
    """

    path: str
    data: Mapping[str, Any]
    target: Target
    working_dir: Path
    client_cwd: Path
    setup: Script
    run: Script
    notes: Notes

    @property
    def file_mounts(self) -> dict[str, str]:
        """Path on the target, and its source: a path or URL."""
        return _texts(self.data.get("file_mounts"))

    @property
    def storage_mounts(self) -> dict[str, Mapping[str, Any]]:
        """Path on the target, and the bucket that is mounted there."""
        mounts = mapping_of(self.data.get("storage_mounts"))
        return {str(key): mapping_of(value) for key, value in mounts.items()}

    @property
    def resources(self) -> Mapping[str, Any]:
        """The resources it requests for each node."""
        return mapping_of(self.data.get("resources"))

    @property
    def envs(self) -> dict[str, str]:
        """The environment it sets."""
        return _texts(self.data.get("envs"))

    @property
    def made_files(self) -> MadeFiles:
        """The files its scripts may make, as paths of the target."""
        return self.setup.made_files().plus(self.run.made_files())

    @property
    def brings_environment(self) -> bool:
        """Whether its scripts load something that may set variables or provide packages."""
        return bool(_ENVIRONMENT.search(f"{self.setup.text}\n{self.run.text}"))

    def files_made_before(self, key: str, call: OumiCall) -> MadeFiles:
        """The files its scripts may make before a call in `key`, as paths of this machine."""
        if key == "setup":
            made = self.setup.made_files(before=call.place)
        else:
            made = self.setup.made_files().plus(self.run.made_files(before=call.place))
        return self.here(made)

    def here(self, made: MadeFiles) -> MadeFiles:
        """The files that scripts make, as paths of this machine."""

        def local(path: str) -> str:
            return os.path.normpath(self.working_dir / expand_home(path))

        return MadeFiles(
            frozenset(map(local, made.folders)), frozenset(map(local, made.files)), made.anything
        )

    def is_mounted(self, path: str) -> bool:
        """Whether a path of the target is in a mount."""
        return any(_within(path, place) for place in [*self.file_mounts, *self.storage_mounts])

    def is_stored(self, path: str) -> bool:
        """Whether a path of the target is in a bucket, so that it outlives the cluster."""
        return any(_within(path, place) for place in self.storage_mounts)

    def source_of(self, path: str) -> Path | None:
        """The file on this machine that a file mount copies to a path of the target."""
        for place, source in self.file_mounts.items():
            if _within(path, place) and not source.startswith(REMOTE_SCHEMES):
                rest = _plain(path)[len(_plain(place)) :].lstrip("/")
                found = self.local(source)
                return found / rest if rest else found
        return None

    def folder(self, cwd: str | None) -> Path | None:
        """The folder on this machine in which a command of a script runs; None if unknown.

        Args:
            cwd: The command's folder: relative to the script's first one, or of the target.
        """
        if cwd is None:
            return None
        if cwd.startswith(("/", "~")):
            return expand_home(cwd) if self.target.is_local else self.source_of(cwd)
        return Path(os.path.normpath(self.working_dir / cwd))

    def local(self, path: str) -> Path:
        """Resolve a path of the job config on this machine."""
        return Path(os.path.normpath(self.client_cwd / expand_home(path)))


def read_job(
    path: str, data: Mapping[str, Any], *, cloud: str, client_cwd: Path, notes: Notes
) -> Job:
    """Read a job config as it would be launched.

    Args:
        path: The file.
        data: Its content.
        cloud: The requested cloud; empty: the cloud of the config.
        client_cwd: Where relative paths start from.
        notes: Collects its problems.
    """
    asked = mapping_of(data.get("resources"))
    named = text_of(asked.get("cloud")) or cloud or LOCAL_CLOUD
    target = Target(
        cloud=named,
        accelerator=parse_accelerator(text_of(asked.get("accelerators")), cloud=named),
        num_nodes=number_of(data.get("num_nodes")) or 1,
        disk_gb=number_of(asked.get("disk_size")),
        instance_type=text_of(asked.get("instance_type")),
    )
    folder = text_of(data.get("working_dir"))
    working_dir = Path(os.path.normpath(client_cwd / expand_home(folder)))
    envs = _texts(data.get("envs"))

    def read_script(name: str, cwd: str | None) -> str | None:
        return _read_script(working_dir, name, cwd)

    return Job(
        path=path,
        data=data,
        target=target,
        working_dir=working_dir,
        client_cwd=client_cwd,
        setup=Script(text_of(data.get("setup")), envs, read_script),
        run=Script(text_of(data.get("run")), envs, read_script),
        notes=notes,
    )


def _read_script(working_dir: Path, name: str, cwd: str | None) -> str | None:
    """Read a script of the working folder; None if it is not there, or too large."""
    below = from_start(name)
    if below is not None:
        cwd, name = "", below
    if cwd is None or "$" in name or name.startswith("~"):
        return None
    path = working_dir / expand_home(cwd) / name
    try:
        return read_regular_file(path, limit=_SCRIPT_BYTES).decode()
    except (OSError, ValueError):
        return None


def _within(path: str, place: str) -> bool:
    inner, outer = PurePosixPath(_plain(path)), PurePosixPath(_plain(place))
    return inner == outer or outer in inner.parents


def _plain(path: str) -> str:
    """A path of the target with its home folder in one notation."""
    for home in ("$HOME", "${HOME}"):
        if path.startswith(f"{home}/"):
            path = "~" + path[len(home) :]
    return path.rstrip("/")


def _texts(value: object) -> dict[str, str]:
    return {
        str(key): str(item)
        for key, item in mapping_of(value).items()
        if isinstance(item, str | int | float) and item != MISSING
    }
