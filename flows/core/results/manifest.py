"""The manifest beside collected results, which ``sha256sum -c`` checks. Blocking."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from flows.core.private_files import write_private

STAGING: Final = ".oumi-flows"
"""Folder in the target where files are until their checksums are proved."""
_SHORT: Final = 8
_LINE: Final = re.compile(r"(\\?)([0-9a-f]{64})  (.+)")
_MOST_BYTES: Final = 50_000_000


def manifest_path(folder: Path, job_id: str) -> Path:
    """Return the manifest of the results of a job in a folder."""
    return folder / f"oumi-flows-{job_id[:_SHORT]}.sha256"


def read_manifest(folder: Path, job_id: str) -> dict[str, str]:
    """Read the checksums of a job's collected files by their relative path; none if missing."""
    try:
        with manifest_path(folder, job_id).open(encoding="utf-8", errors="surrogateescape") as file:
            lines = file.read(_MOST_BYTES).splitlines()
    except OSError:
        return {}
    found = (_LINE.fullmatch(line) for line in lines)
    return {_read_name(one[3]) if one[1] else one[3]: one[2] for one in found if one}


def write_manifest(folder: Path, job_id: str, checksums: Mapping[str, str]) -> Path:
    """Add checksums to the manifest of a job; return its path.

    Raises:
        OSError: It cannot be written.
    """
    path = manifest_path(folder, job_id)
    every = read_manifest(folder, job_id) | dict(checksums)
    text = "".join(_line(name, digest) for name, digest in sorted(every.items()))
    write_private(path, text.encode("utf-8", "surrogateescape").decode("utf-8", "replace"))
    return path


def _line(name: str, digest: str) -> str:
    """A line as sha256sum writes it; it marks names with special characters by a backslash."""
    written = name.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
    return f"{'' if written == name else chr(92)}{digest}  {written}\n"


def _read_name(written: str) -> str:
    return re.sub(r"\\(.)", lambda found: {"n": "\n", "r": "\r"}.get(found[1], found[1]), written)
