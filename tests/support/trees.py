"""Folders and their contents."""

import hashlib
from pathlib import Path


def digests(folder: Path) -> dict[str, str]:
    """The checksum of each file below a folder."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
