"""Shell scripts and files to a login node, over one shared ssh connection.

This uses the connection that Oumi shares (``~/.ssh/control-%h-%p-%r``), so a person can open it by
hand where a site requires a password or a code.
"""

import logging
import os
import secrets
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import ClassVar, Final

from flows.core.errors import ClusterUnreachable, LaunchFailed
from flows.launcher.port import ASKS_AGAIN

CANNOT_TELL: Final = 75
"""Exit code of our scripts when Slurm itself did not answer."""
_TRANSPORT_FAILED: Final = 255
_CONNECT_SECONDS: Final = 15
_NO_ACCESS: Final = (
    b"Name or service not known",
    b"No address associated with hostname",
    b"nodename nor servname provided",
    b"Host key verification failed",
    b"Permission denied (",
    b"Too many authentication failures",
)
"""What ssh prints where a person must change something (OpenSSH 9, glibc and macOS). A temporary
failure of name resolution is not among them."""
_PERSIST_SECONDS: Final = 300


class Refused(Exception):
    """A script failed; has the last line of its errors."""


class NoAccess(ClusterUnreachable):
    """ssh gets no access, and gets none until a person changes something."""


class LoginNode:
    """A user's account on a login node.

    Args:
        address: ``user@host``, the host as ssh knows it.
        timeout_seconds: Limit of one script.
    """

    name: ClassVar[str] = "Slurm at"
    """What answers, in errors."""
    proof: ClassVar[str] = " squeue"
    """The command that must work there."""

    def __init__(self, address: str, *, timeout_seconds: float) -> None:
        self.address = self._address = address
        self._timeout_seconds = timeout_seconds
        self.ssh = self._ssh = [
            *("ssh", "-T", "-o", "BatchMode=yes", "-o", f"ConnectTimeout={_CONNECT_SECONDS}"),
            *("-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=3"),
            *self.sharing(),
        ]

    def sharing(self) -> list[str]:
        """Options of ssh that let calls share one connection."""
        folder = Path.home() / ".ssh"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return [
            *("-o", f"ControlPath={folder}/control-%h-%p-%r", "-o", "ControlMaster=auto"),
            *("-o", f"ControlPersist={_PERSIST_SECONDS}"),
        ]

    def run(self, script: str, *, timeout_seconds: float | None = None) -> bytes:
        """Run a bash script there and return what it prints.

        The script goes through standard input: no list of processes shows it, and none of its lines
        can end it early. The output of the account's own start-up files is left out.

        Args:
            script: The script.
            timeout_seconds: Its limit; None: that of every script.

        Raises:
            ClusterUnreachable: The login node or Slurm did not answer.
            NoAccess: The login node is unknown, or gives no access.
            Refused: The script failed.
        """
        mark = secrets.token_hex(16)
        # A function: a script that arrives in part does not run, and no command reads its rest.
        text = f"main() {{\nprintf '%s\\n' {mark}\n{script}\n}}\nmain </dev/null; exit\n"
        done = self._call(
            [*self._ssh, "--", self._address, "exec bash -l -s"],
            stdin=text.encode(),
            timeout=timeout_seconds or self._timeout_seconds,
        )
        if done.returncode in (_TRANSPORT_FAILED, CANNOT_TELL):
            raise self._unreachable(done.stderr)
        if done.returncode:
            raise Refused(_last_line(done.stderr) or f"exit code {done.returncode}")
        return done.stdout.partition(f"{mark}\n".encode())[2]

    def copy(self, source: Path, destination: str, *, timeout_seconds: float) -> None:
        """Copy a file, or a folder's content, into the account's home; leave out ignored files.

        Raises:
            ClusterUnreachable: The login node did not answer.
            LaunchFailed: The copy failed.
        """
        command = [
            *("rsync", "--archive", "--compress", "--protect-args", "--filter=:- .gitignore"),
            *("-e", shlex.join(self._ssh), "--"),
            f"{source}/" if source.is_dir() else str(source),
            f"{self._address}:{destination}",
        ]
        done = self._call(command, stdin=b"", timeout=timeout_seconds)
        if done.returncode in (_TRANSPORT_FAILED, 12, 30, 35):  # protocol stream, time-outs
            raise self._unreachable(done.stderr)
        if done.returncode:
            raise LaunchFailed(
                f"{source} could not be copied to {self._address}: {_last_line(done.stderr)}",
                "Correct the cause and retry the job",
            )

    def _call(
        self, command: list[str], *, stdin: bytes, timeout: float
    ) -> "subprocess.CompletedProcess[bytes]":
        try:
            return subprocess.run(
                [*dies_with_us(), *command],
                input=stdin,
                capture_output=True,
                timeout=timeout,
                check=False,
                start_new_session=True,
            )
        except subprocess.TimeoutExpired:
            raise self._unreachable(f"no answer within {timeout:g} s".encode()) from None

    def _unreachable(self, errors: bytes) -> ClusterUnreachable:
        why = _last_line(errors)
        logging.getLogger("prefect.oumi.slurm").debug("%s: %s", self._address, why)
        if any(sign in errors for sign in _NO_ACCESS):
            return NoAccess(
                f"ssh gets no access to {self._address}: {why}",
                f"Make `ssh -o BatchMode=yes {self._address}{self.proof}` work for the worker's "
                "account, then retry the job",
            )
        return ClusterUnreachable(
            f"{self.name} {self._address} did not answer: {why}",
            f"Check that `ssh {self._address}{self.proof}` works; {ASKS_AGAIN}",
        )


def dies_with_us() -> list[str]:
    """Write the prefix that ends a command with its worker, where the system has one."""
    setpriv = shutil.which("setpriv") if os.name == "posix" else None
    return [setpriv, "--pdeathsig", "KILL"] if setpriv else []


def _last_line(text: bytes) -> str:
    lines = text.decode(errors="replace").strip().splitlines()
    return lines[-1].strip()[:300] if lines else ""
