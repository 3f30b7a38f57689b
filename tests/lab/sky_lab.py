"""A SkyPilot API server whose one cloud is the lab's Slurm, in a home folder of its own.

SkyPilot keeps a cluster as a long Slurm job with a home of its own, into which it fetches a Python
and itself. A task prolog puts an `uv` there first that uses the machine's own Python.
"""

import os
import pwd
import shutil
import socket
import sys
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Final

import psutil

from tests.lab.daemons import Daemons
from tests.lab.slurm_lab import CannotRun, SlurmLab
from tests.support.isolation import MARKER_ENV
from tests.support.leaks import processes_of

URL: Final = "http://127.0.0.1:46580"
_PORTS: Final = (46580, 50011)
"""SkyPilot's own, which no setting changes (skypilot 0.12)."""
_START_SECONDS: Final = 180.0
_PYTHON: Final = Path("/usr/bin/python3")
_CERTIFICATES: Final = Path("/etc/ssl/certs/ca-certificates.crt")


class SkyLab(SlurmLab):
    """A running lab. The test session's own HOME has SkyPilot's settings."""

    def __init__(self) -> None:
        if not _PYTHON.exists():
            raise CannotRun(f"not installed: {_PYTHON}")
        if taken := [port for port in _PORTS if _is_open(port)]:
            raise CannotRun(f"ports of a SkyPilot API server are taken: {taken}")
        super().__init__()
        self._server = Daemons(self.root / "log")
        self._orphans: list[psutil.Process] = []

    def up(self) -> None:
        """Start everything; returns once a cluster could be launched."""
        super().up()
        try:
            self._write_sky()
            self.start_server()
        except BaseException:
            self.down()
            raise

    def down(self) -> None:
        """End everything, and remove what it left."""
        user = pwd.getpwnam(self.user).pw_uid
        try:
            self.stop_server()
        finally:
            super().down()
            # Where SkyPilot keeps its runtime on a node, under the cluster's name.
            for folder in Path("/tmp").glob("*/skypilot-runtime"):
                if folder.stat().st_uid == user:
                    shutil.rmtree(folder.parent, ignore_errors=True)

    def start_server(self) -> None:
        """Start the API server."""
        self._server.start(
            *(Path(sys.executable).with_name("sky"), "api", "start", "--foreground"),
            ready=_is_healthy,
            timeout=_START_SECONDS,
        )

    def kill_server_alone(self) -> None:
        """Kill the API server's main process; what it is at goes on in its other ones.

        Its queue of requests too, which would keep a new server from starting by its port.
        """
        self._orphans += self._server.children("sky")
        self._server.kill("sky")
        for process in self._orphans:
            with suppress(psutil.NoSuchProcess):
                listens = [
                    c for c in process.net_connections("tcp") if c.status == psutil.CONN_LISTEN
                ]
                if any(connection.laddr.port in _PORTS for connection in listens):
                    process.kill()

    def stop_server(self) -> None:
        """End the API server and what it has started, at once."""
        processes = self._server.children("sky")
        for orphan in self._orphans:
            with suppress(psutil.NoSuchProcess):
                processes += [*orphan.children(recursive=True), orphan]
        self._orphans.clear()
        self._server.kill("sky")
        # One for each request, to end what it leaves; detached, and waiting for nothing any more.
        processes += [
            process
            for process in processes_of(os.environ[MARKER_ENV])
            if any("subprocess_daemon" in word for word in process.cmdline())
        ]
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(processes, timeout=10)

    def _write_slurm(self) -> None:
        super()._write_slurm()
        tools = self.root / "tools"
        tools.mkdir(exist_ok=True)
        shutil.copy(Path(sys.executable).with_name("uv"), tools / "uv.real")
        _script(
            tools / "uv",
            f"""\
arguments=()
for argument in "$@"; do
  [ "$argument" = 3.10 ] && argument={_PYTHON}
  arguments+=("$argument")
done
export UV_PYTHON_DOWNLOADS=never UV_LINK_MODE=copy
[ -e {_CERTIFICATES} ] && export SSL_CERT_FILE={_CERTIFICATES}
{tools}/uv.real "${{arguments[@]}}" || exit
# skylet's port would listen on every address (skypilot 0.12).
case " ${{arguments[*]}} " in
  *" install "*skypilot*)
    sed -i "s/'0\\.0\\.0\\.0:/'127.0.0.1:/" \
      "$VIRTUAL_ENV"/lib/python3*/site-packages/sky/skylet/skylet.py ;;
esac
""",
        )
        _script(
            tools / "prolog",
            f"""\
folder="$HOME/.sky_clusters/$SLURM_JOB_NAME"
if [ -n "$SLURM_JOB_NAME" ] && [ -d "$folder" ] && [ ! -e "$folder/.local/bin/uv" ]; then
  mkdir -p "$folder/.local/bin" && ln -s {tools}/uv "$folder/.local/bin/uv"
  touch "$folder/.bashrc"  # of which every job would say that it is not there
fi
exit 0
""",
        )
        with self._slurm_conf.open("a") as conf:
            conf.write(f"TaskProlog={tools}/prolog\n")

    def _write_sky(self) -> None:
        home = Path.home()
        (home / ".slurm").mkdir(exist_ok=True)
        (home / ".slurm" / "config").write_text(
            f"""\
Host lab
    HostName 127.0.0.1
    Port {self.ssh_port}
    User {self.user}
    IdentityFile {self.private_key}
"""
        )
        (home / ".sky").mkdir(exist_ok=True)
        (home / ".sky" / "config.yaml").write_text(
            "allowed_clouds: [slurm]\nprovision:\n  install_conda: false\n"
        )


def _script(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/bash\n{text}")
    path.chmod(0o755)


def _is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _is_healthy() -> bool:
    try:
        with urllib.request.urlopen(f"{URL}/api/health", timeout=5) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False
