"""A machine that is reached over ssh: this one, through an sshd of the test's own on loopback."""

import getpass
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

import psutil

from tests.support.waiting import eventually_sync

SSHD = "/usr/sbin/sshd"
HOST = "box"


class SshBox(NamedTuple):
    """An sshd, and how to reach it.

    Attributes:
        ssh: The command that connects to it, without what to run there.
        daemon: The process of the sshd.
    """

    ssh: list[str]
    daemon: psutil.Process

    def cut(self) -> None:
        """Cut every connection, as a network that goes away does: neither side says goodbye."""
        for session in self.daemon.children(recursive=True):
            if "sshd" in session.name():
                session.kill()


@contextmanager
def ssh_box(folder: Path, environ: Mapping[str, str]) -> Iterator[SshBox]:
    """Run an sshd whose sessions have some variables.

    Args:
        folder: For its keys and configuration.
        environ: What a person's account on the box would set; no PATH of a login shell.
    """
    folder.mkdir()
    for name in ("id", "host"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", folder / name],
            check=True,
        )
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = " ".join(f'"{name}={value}"' for name, value in environ.items())
    (folder / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nPidFile none\n"
        f"AuthorizedKeysFile {folder}/id.pub\nStrictModes no\nUsePAM no\nPrintMotd no\n"
        f"PasswordAuthentication no\nKbdInteractiveAuthentication no\n"
        f"PermitRootLogin prohibit-password\nSetEnv {settings}\n"
    )
    (folder / "config").write_text(
        f"Host {HOST}\n  HostName 127.0.0.1\n  Port {port}\n  User {getpass.getuser()}\n"
        f"  IdentityFile {folder}/id\n  IdentitiesOnly yes\n  StrictHostKeyChecking no\n"
        "  UserKnownHostsFile /dev/null\n  LogLevel ERROR\n"
    )
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # sshd insists on it
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [SSHD, "-D", "-e", "-f", folder / "sshd_config"], stdout=log, stderr=log
        )
    try:
        eventually_sync(lambda: _listens(port))
        ssh = [shutil.which("ssh") or "ssh", "-F", str(folder / "config"), HOST]
        yield SshBox(ssh, psutil.Process(process.pid))
    finally:
        process.terminate()
        process.wait(10)


def _listens(port: int) -> bool:
    with closing(socket.socket()) as client:
        return client.connect_ex(("127.0.0.1", port)) == 0
