"""What a job ran on: versions, code and data, kept so that two jobs can be compared."""

import hashlib
import json
import os
import platform
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final, cast

from pydantic import Field

from flows.models import Value

_PACKAGES: Final = (
    "accelerate",
    "datasets",
    "oumi",
    "oumi-flows",
    "peft",
    "prefect",
    "skypilot",
    "torch",
    "transformers",
    "trl",
    "vllm",
)
_GIT_SECONDS: Final = 5.0
_DIFF_LIMIT: Final = 1_000_000
_WHOLE_BYTES: Final = 64_000_000
"""Larger files are told apart by size and samples: reading them would take longer than a launch."""
_SAMPLES: Final = 64
_SAMPLE_BYTES: Final = 65_536
_FILES: Final = 200


class CodeVersion(Value):
    """The Git state of the folder that a job was submitted from."""

    commit: str
    branch: str = ""
    diff_sha256: str | None = Field(default=None, description="Of what is not committed.")
    diff: str | None = Field(default=None, description="None: clean, or too large to keep.")
    untracked: list[str] = Field(default_factory=list[str], description="At most 200 names.")


class Provenance(Value):
    """What one attempt of a job ran on."""

    host: str
    python: str
    packages: dict[str, str] = Field(description="Name and version.")
    code: CodeVersion | None = Field(description="None: not in a Git repository.")
    data: dict[str, str] = Field(
        description="Path and fingerprint of each file or folder that the config names."
    )
    seed: int | None = None


def provenance(config: Mapping[str, Any], *, client_cwd: str, seed: int | None) -> Provenance:
    """What a job with this config runs on, on this machine, now.

    Args:
        config: The config, with its overrides.
        client_cwd: Absolute folder that relative paths start from.
        seed: The seed of a training; None for anything else.
    """
    return Provenance(
        host=platform.node(),
        python=platform.python_version(),
        packages=dict(_packages()),
        code=_code(Path(client_cwd)),
        data=_data(config, Path(client_cwd)),
        seed=seed,
    )


def keep(record: Provenance, folder: Path) -> str:
    """Keep `record` in `folder` under the hash of its content, which is returned.

    Raises:
        OSError: It cannot be written.
    """
    text = json.dumps(record.model_dump(mode="json"), sort_keys=True)
    sha256 = hashlib.sha256(text.encode()).hexdigest()
    path = folder / f"{sha256}.json"
    if not path.exists():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # mkstemp makes the file 0600.
        handle, temporary = tempfile.mkstemp(dir=folder, prefix=".", suffix=".tmp")
        with os.fdopen(handle, "w") as file:
            file.write(text)
        Path(temporary).replace(path)
    return sha256


def load(sha256: str, folder: Path) -> Provenance | None:
    """The record kept under this hash; None if it is not on this machine."""
    try:
        return Provenance.model_validate_json((folder / f"{sha256}.json").read_bytes())
    except (OSError, ValueError):
        return None


@lru_cache(maxsize=1)
def _packages() -> tuple[tuple[str, str], ...]:
    found: list[tuple[str, str]] = []
    for name in _PACKAGES:
        try:
            found.append((name, version(name)))
        except PackageNotFoundError:
            continue
    return tuple(found)


def _code(folder: Path) -> CodeVersion | None:
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None:
        return None
    diff = _git(folder, "diff", "HEAD", "--binary", "--no-color", "--no-ext-diff") or ""
    untracked = _git(folder, "ls-files", "--others", "--exclude-standard") or ""
    return CodeVersion(
        commit=commit.strip(),
        branch=(_git(folder, "rev-parse", "--abbrev-ref", "HEAD") or "").strip(),
        diff_sha256=hashlib.sha256(diff.encode()).hexdigest() if diff else None,
        diff=diff if 0 < len(diff) <= _DIFF_LIMIT else None,
        untracked=untracked.splitlines()[:_FILES],
    )


def _git(folder: Path, *arguments: str) -> str | None:
    """What a Git command says; None if there is no Git, no repository, or no answer in time."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_GIT_SECONDS,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode(errors="replace") if done.returncode == 0 else None


def _data(config: Mapping[str, Any], folder: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in _texts(config):
        if not text or "\n" in text or len(text) > 4096 or len(found) >= _FILES:
            continue
        path = Path(os.path.normpath(folder / os.path.expanduser(text)))  # noqa: PTH111 - an unknown user is no error
        try:
            fingerprint = _fingerprint(path)
        except (OSError, ValueError):
            continue
        if fingerprint is not None:
            found[text] = fingerprint
    return found


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, entry in cast("dict[object, object]", value).items():
            # Where results go is not what they are made of.
            if not str(key).startswith(("output", "run_name", "working_dir", "setup", "run")):
                yield from _texts(entry)
    elif isinstance(value, list):
        for entry in cast("list[object]", value):
            yield from _texts(entry)


def _fingerprint(path: Path) -> str | None:
    if path.is_file():
        return _of_file(path)
    if not path.is_dir():
        return None
    names = sorted(entry for entry in path.iterdir() if entry.is_file())[:_FILES]
    listing = "\n".join(f"{name.name} {_of_file(name)}" for name in names)
    return f"folder of {len(names)}: {hashlib.sha256(listing.encode()).hexdigest()}"


def _of_file(path: Path) -> str:
    size = path.stat().st_size
    with path.open("rb") as file:
        if size <= _WHOLE_BYTES:
            return f"sha256 {hashlib.file_digest(file, 'sha256').hexdigest()}"
        digest = hashlib.sha256(str(size).encode())
        for number in range(_SAMPLES):
            file.seek(number * (size - _SAMPLE_BYTES) // (_SAMPLES - 1))
            digest.update(file.read(_SAMPLE_BYTES))
    return f"sampled {digest.hexdigest()} of {size} bytes"
