"""Record versions, code and data of a job, so that two jobs can be compared."""

import hashlib
import json
import os
import platform
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, NamedTuple, cast

from pydantic import Field

from flows.core.file_names import exists, is_file, is_folder
from flows.core.git_changes import GitChanges, OutOfTime
from flows.core.git_files import find_repository
from flows.core.models import Value
from flows.core.private_files import write_private
from flows.core.regular_files import open_regular_file

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
_DIFF_LIMIT: Final = 1_000_000
_WHOLE_BYTES: Final = 64_000_000
"""Larger files are compared by size and samples: reading them would take longer than a launch."""
_SAMPLES: Final = 64
_SAMPLE_BYTES: Final = 65_536
_FILES: Final = 200


class CodeVersion(Value):
    """The Git state of the folder that a job was submitted from."""

    commit: str
    branch: str = ""
    diff_sha256: str | None = Field(
        default=None, description="Of what is not committed, or why that is unknown."
    )
    diff: str | None = Field(default=None, description="None: clean, or too large to keep.")
    untracked: list[str] = Field(default_factory=list[str], description="At most 200 names.")


class Source(NamedTuple):
    """A config whose models and data a job uses.

    Attributes:
        config: The config, with its overrides.
        folder: Where its relative paths start from.
        path: Its file, if no copy of it is kept.
    """

    config: Mapping[str, Any]
    folder: Path
    path: str = ""


class Provenance(Value):
    """The versions, code and data of one attempt of a job."""

    host: str
    python: str
    packages: dict[str, str] = Field(description="Name and version.")
    installed: str = Field(default="", description="Count and hash of all distributions.")
    code: CodeVersion | None = Field(description="None: not in a Git repository.")
    data: dict[str, str] = Field(
        description="Path and fingerprint of each file or folder that the config names."
    )
    seed: int | None = None


def provenance(sources: Iterable[Source], *, client_cwd: str, seed: int | None) -> Provenance:
    """Record the versions, code and data of a job with these configs, on this machine, now.

    Args:
        sources: The config, and those that its scripts load.
        client_cwd: Absolute folder of the code.
        seed: The seed of a training; None for anything else.
    """
    return Provenance(
        host=platform.node(),
        python=platform.python_version(),
        packages=dict(_packages()),
        installed=_hash_packages(),
        code=_code(Path(client_cwd)),
        data=_data(sources, Path(client_cwd)),
        seed=seed,
    )


def keep(record: Provenance, folder: Path) -> str:
    """Keep `record` in `folder` under the hash of its content, and return the hash.

    Raises:
        OSError: It cannot be written.
    """
    text = json.dumps(record.model_dump(mode="json"), sort_keys=True)
    sha256 = hashlib.sha256(text.encode()).hexdigest()
    path = folder / f"{sha256}.json"
    if not exists(path):
        write_private(path, text)
    return sha256


def load(sha256: str, folder: Path) -> Provenance | None:
    """Read the record with this hash; None if it is not on this machine."""
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
    if cuda := _torch_cuda():
        found.append(("torch.cuda", cuda))
    return tuple(found)


def _torch_cuda() -> str | None:
    """The CUDA version that torch was built for; not all versions of its wheels contain it."""
    spec = find_spec("torch")
    if spec is None or spec.origin is None:
        return None
    try:
        text = Path(spec.origin).with_name("version.py").read_text()
    except OSError:
        return None
    said = re.search(r"^cuda\b.*= *'([^']*)'", text, re.MULTILINE)
    return said[1] if said else None


@lru_cache(maxsize=1)
def _hash_packages() -> str:
    """Count and hash the installed distributions, by the names of their folders, with versions."""
    folders = [Path(path) for path in sys.path if is_folder(Path(path))]
    names = sorted({entry.name for folder in folders for entry in folder.glob("*.dist-info")})
    return f"{len(names)}: {hashlib.sha256(chr(10).join(names).encode()).hexdigest()}"


def _code(folder: Path) -> CodeVersion | None:
    repository = find_repository(folder)
    if repository is None:
        return None
    git = GitChanges(repository)
    head = git.head()
    if head is None:
        return None
    try:
        diff, untracked = git.compare(head, folder, most_untracked=_FILES)
    except (OutOfTime, OSError) as error:
        why = "takes too long" if isinstance(error, OutOfTime) else "cannot be read"
        return CodeVersion(commit=head.commit, branch=head.branch, diff_sha256=f"unknown: {why}")
    return CodeVersion(
        commit=head.commit,
        branch=head.branch,
        diff_sha256=hashlib.sha256(diff.encode()).hexdigest() if diff else None,
        diff=diff if 0 < len(diff) <= _DIFF_LIMIT else None,
        untracked=untracked,
    )


def _data(sources: Iterable[Source], client_cwd: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for source in sources:
        for text in (source.path, *_texts(source.config)):
            if not text or "\n" in text or len(text) > 4096 or len(found) >= _FILES:
                continue
            path = Path(os.path.normpath(source.folder / os.path.expanduser(text)))  # noqa: PTH111 - an unknown user is not an error
            name = text if source.folder == client_cwd else str(path)
            try:
                fingerprint = None if name in found else _fingerprint(path)
            except (OSError, ValueError):
                continue
            if fingerprint is not None:
                found[name] = fingerprint
    return found


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, entry in cast("dict[object, object]", value).items():
            # The folder of the results does not affect them.
            if not str(key).startswith(("output", "run_name", "working_dir", "setup", "run")):
                yield from _texts(entry)
    elif isinstance(value, list):
        for entry in cast("list[object]", value):
            yield from _texts(entry)


def _fingerprint(path: Path) -> str | None:
    if is_file(path):
        return _of_file(path)
    if not is_folder(path):
        return None
    names = sorted(entry for entry in path.iterdir() if entry.is_file())[:_FILES]
    listing = "\n".join(f"{name.name} {_of_file(name)}" for name in names)
    return f"folder of {len(names)}: {hashlib.sha256(listing.encode()).hexdigest()}"


def _of_file(path: Path) -> str:
    size = path.stat().st_size
    with open_regular_file(path) as file:
        if size <= _WHOLE_BYTES:
            return f"sha256 {hashlib.file_digest(file, 'sha256').hexdigest()}"
        digest = hashlib.sha256(str(size).encode())
        for number in range(_SAMPLES):
            file.seek(number * (size - _SAMPLE_BYTES) // (_SAMPLES - 1))
            digest.update(file.read(_SAMPLE_BYTES))
    return f"sampled {digest.hexdigest()} of {size} bytes"
