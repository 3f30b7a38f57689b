"""The files of a job on a cluster: listed, read, checked and copied over the launcher's own ssh."""

import base64
import posixpath
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from flows.core.errors import ClusterUnreachable
from flows.core.results.listing import FILES_MAX, SKIPPED_FOLDERS, FileFact
from flows.launcher.port import ASKS_AGAIN
from flows.launcher.slurm.ssh import Refused

_LIST_BYTES: Final = 20_000_000
_FIELDS: Final = 3
_DIGEST_LENGTH: Final = 64
_CHECKSUM_SECONDS: Final = 86_400.0
"""Limit of the checksums of one call; a terabyte takes about an hour."""

_LIST: Final = r"""
prune=(-type d \( SKIPPED \) -prune -o)
newer=()
if [ -n "$marker" ]; then newer=(-cnewer "$marker"); elif [ -n "$since" ]; then
  newer=(-newermt "@$since"); fi
printf 'home\t%s\0folder\t%s\0' "$HOME" "$PWD"
{
  for path in "$PWD" "$@"; do
    case $path in '~/'*) path=$HOME/${path#'~/'};; esac
    [ -e "$path" ] || continue
    find -P "$path" "${prune[@]}" -type f ! -path "$PWD/$skip" "${newer[@]}" -printf '%s\t%T@\t%p\0'
  done
} 2>/dev/null | head -c LIST_BYTES
""".replace("LIST_BYTES", str(_LIST_BYTES))


class Node(Protocol):
    """A machine of the cluster that ssh reaches."""

    @property
    def address(self) -> str:
        """Its address, as ssh and rsync take it."""
        ...

    @property
    def ssh(self) -> Sequence[str]:
        """The command that logs in, without the address."""
        ...

    def run(self, script: str, *, timeout_seconds: float | None = None) -> bytes:
        """Run a bash script there and return what it prints."""
        ...


class RemoteListing(NamedTuple):
    """The files of a job on a cluster.

    Attributes:
        home: The account's home folder.
        folder: The job's working folder; empty: there is none.
        is_whole: Whether it has all files.
    """

    home: str
    folder: str
    files: list[FileFact]
    is_whole: bool

    def absolute(self, path: str) -> str:
        """A path of the job's config as an absolute one."""
        if path.startswith("~/"):
            return posixpath.normpath(posixpath.join(self.home, path[2:]))
        return posixpath.normpath(posixpath.join(self.folder, path))


@dataclass(frozen=True)
class RemoteFiles:
    """The files of one job.

    Attributes:
        node: Where they are.
        enter: Bash that goes to the job's working folder, or exits with 0 if there is none. It may
            set `marker` to a file that is as old as the job, and `skip` to a file of the folder
            that is no result.
        is_for_one_attempt: Whether each attempt of a job has a folder of its own.
    """

    node: Node
    enter: str
    is_for_one_attempt: bool = False

    def find(self, outputs: Sequence[str], *, since: float | None) -> RemoteListing:
        """List the files that changed since the job began. Blocking.

        Args:
            outputs: Further files and folders, as the job's configs name them.
            since: When the job began, in seconds since the epoch, where no file marks that.

        Raises:
            ClusterUnreachable: The cluster did not answer.
        """
        skipped = " -o ".join(f"-name {shlex.quote(name)}" for name in sorted(SKIPPED_FOLDERS))
        begin = "" if since is None else str(int(since))
        script = "\n".join(
            [
                f"set -- {shlex.join(outputs)}",
                f"marker= skip=/ since={begin}",
                self.enter,
                _LIST.replace("SKIPPED", skipped),
            ]
        )
        return _parse_list(self._run(script))

    def read(self, paths: Sequence[str], *, limit: int) -> dict[str, bytes]:
        """Read the first bytes of files; leave out those that cannot be read. Blocking."""
        if not paths:
            return {}
        script = (
            f"for path in {shlex.join(paths)}; do\n"
            '[ -f "$path" ] && [ -r "$path" ] || continue\n'
            "printf '%s\\0' \"$path\"\n"
            f'head -c {limit} -- "$path" | base64 -w 0\n'
            "printf '\\0'\ndone\n"
        )
        parts = self._run(script).split(b"\0")
        pairs = zip(parts[::2], parts[1::2], strict=False)
        return {_text(path): base64.b64decode(content) for path, content in pairs}

    def checksums(self, paths: Sequence[str]) -> dict[str, str]:
        """Compute the SHA-256 of files; leave out those that cannot be read. Blocking."""
        if not paths:
            return {}
        script = f"printf '%s\\0' {shlex.join(paths)} | xargs -0 sha256sum -bz -- || :\n"
        found: dict[str, str] = {}
        for entry in self._run(script, timeout_seconds=_CHECKSUM_SECONDS).split(b"\0"):
            digest, _, path = _text(entry).partition(" *")
            if path and len(digest) == _DIGEST_LENGTH:
                found[path] = digest
        return found

    def copy_command(self, folder: str, target: str) -> list[str]:
        """Return the rsync command that copies files below a folder.

        It takes their relative paths from standard input, each with a null character at its end.
        What an interrupted copy left in the target is completed.

        Args:
            folder: Absolute, on the cluster.
            target: Folder on this machine.
        """
        return [
            *("rsync", "--times", "--no-links", "--protect-args", "--inplace", "--partial"),
            *("--no-whole-file", "--from0", "--files-from=-", "--timeout=300"),
            *("-e", shlex.join(self.node.ssh), "--"),
            f"{self.node.address}:{folder.rstrip('/')}/",
            f"{target.rstrip('/')}/",
        ]

    def _run(self, script: str, *, timeout_seconds: float | None = None) -> bytes:
        try:
            return self.node.run(script, timeout_seconds=timeout_seconds)
        except Refused as error:
            raise ClusterUnreachable(
                f"{self.node.address} could not read the job's files: {error}", ASKS_AGAIN
            ) from error


def _parse_list(answer: bytes) -> RemoteListing:
    *entries, rest = answer.split(b"\0")
    named: dict[str, str] = {}
    files: dict[str, FileFact] = {}
    for entry in entries:
        fields = _text(entry).split("\t", _FIELDS - 1)
        if len(fields) == _FIELDS:
            size, written_at, path = fields
            path = posixpath.normpath(path)
            files[path] = FileFact(path, int(size), float(written_at))
        elif len(fields) == _FIELDS - 1:
            named[fields[0]] = fields[1]
    return RemoteListing(
        named.get("home", ""),
        named.get("folder", ""),
        list(files.values())[:FILES_MAX],
        not rest and len(files) <= FILES_MAX,
    )


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")
