"""Unpacks only the configs of an archive of Oumi's repository."""

import gzip
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final

from flows.core.configs.reader import MAX_CONFIG_BYTES
from flows.core.errors import ConfigNotFound

_FOLDER: Final = "configs"
_SUFFIXES: Final = (".yaml", ".yml")
_MAX_MEMBERS: Final = 100_000
_NEXT_STEP: Final = "Set OUMI_FLOWS_CONFIGS_URL to a .tar.gz of Oumi's repository"


def extract_configs(archive: Path, into: Path, *, max_files: int, max_bytes: int) -> int:
    """Write the YAML files below the archive's ``<root>/configs`` into `into`; their number.

    Skip links, absolute names and names with ``..``, so that no file is written elsewhere.

    Args:
        archive: The archive.
        into: The folder.
        max_files: The most configs that an archive of Oumi has.
        max_bytes: The most bytes that it unpacks to.

    Raises:
        ConfigNotFound: It is no such archive, is damaged, or unpacks to too many bytes.
        OSError: A file cannot be written.
    """
    count = 0
    try:
        with _Bounded(archive, max_bytes) as unpacked:
            with tarfile.open(fileobj=unpacked, mode="r|") as tar:
                for name, text in _configs(tar, max_files):
                    target = into / name
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(text)
                    count += 1
            # To the end, where the checksum is.
            while unpacked.read(1 << 16):
                pass
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, _TooMuch) as error:
        raise ConfigNotFound(
            f"the fetched file is no complete .tar.gz ({error or type(error).__name__})", _NEXT_STEP
        ) from error
    if not count:
        raise ConfigNotFound("the fetched archive has no folder of configs", _NEXT_STEP)
    return count


def _configs(tar: tarfile.TarFile, max_files: int) -> Iterator[tuple[PurePosixPath, bytes]]:
    found = 0
    for number, member in enumerate(tar):
        if number > _MAX_MEMBERS or found > max_files:
            raise _TooMuch("too many files")
        name = _config_name(member)
        file = tar.extractfile(member) if name is not None else None
        if name is not None and file is not None:
            found += 1
            yield name, file.read()


def _config_name(member: tarfile.TarInfo) -> PurePosixPath | None:
    """The path of a config below the folder of configs; None if it is none."""
    parts = PurePosixPath(member.name).parts
    name = PurePosixPath(*parts[2:])
    if (
        not member.isreg()
        or len(parts) < 3
        or parts[1] != _FOLDER
        or "\\" in member.name
        or parts[0] == "/"
        # Hidden, or ``..``.
        or any(part.startswith(".") for part in name.parts)
        or name.suffix not in _SUFFIXES
        or member.size > MAX_CONFIG_BYTES
    ):
        return None
    return name


class _TooMuch(Exception):
    pass


class _Bounded(gzip.GzipFile):
    """A file whose reading fails beyond the size of any archive of Oumi."""

    def __init__(self, archive: Path, max_bytes: int) -> None:
        super().__init__(archive)
        self._max_bytes = max_bytes
        self._unpacked = 0

    def read(self, size: int | None = -1) -> bytes:
        content = super().read(size)
        self._unpacked += len(content)
        if self._unpacked > self._max_bytes:
            raise _TooMuch(f"more than {self._max_bytes:,} bytes unpacked")
        return content
