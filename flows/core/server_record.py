"""The record of the embedded Prefect server, and the guard of what is sent to its port."""

import sys
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from pydantic import ValidationError

from flows.core.live_processes import ProcessRecord
from flows.core.models import Value

SERVER_HOST: Final = "127.0.0.1"
SERVER_RECORD: Final = "server.json"


class ServerRecord(Value):
    """The server's permanent port, and the process that last served on it.

    `folder` is the path of the engine's folder that the process was started for; empty in a
    record of an earlier version. `stopped` is true if we ended the process on purpose.
    """

    port: int
    process: ProcessRecord | None = None
    folder: str = ""
    stopped: bool = False

    @property
    def is_served(self) -> bool:
        """Whether the process is alive and holds the port."""
        return self.process is not None and self.process.holds(SERVER_HOST, self.port)


def read_server_record(engine_dir: Path) -> ServerRecord | None:
    """Read the record in an engine's folder; None if there is none or it is invalid."""
    try:
        return ServerRecord.model_validate_json((engine_dir / SERVER_RECORD).read_bytes())
    except (OSError, ValidationError):
        return None


def guard_server_port(api_url: str, engine_dir: Path) -> None:
    """Refuse this process connections to the embedded server's port while another process has it.

    Prefect's client sends the engine's password with every request, and with every websocket,
    to any listener. The guard is an audit hook, which sees each connection that Python makes,
    from any library. It stays until the process ends.

    Args:
        api_url: The server this process speaks to.
        engine_dir: The engine's folder. Where its record names another port than `api_url`, the
            server is not the embedded one and nothing is guarded.
    """
    known = read_server_record(engine_dir)
    address = urlsplit(api_url)
    if known is None or (address.hostname, address.port) != (SERVER_HOST, known.port):
        return
    guarded = (SERVER_HOST, known.port)

    def refuse_others(event: str, arguments: tuple[Any, ...]) -> None:
        if event != "socket.connect" or arguments[1] != guarded:
            return
        record = read_server_record(engine_dir)
        if record is None or record.port != guarded[1] or not record.is_served:
            raise ConnectionRefusedError(f"The engine's server does not hold port {guarded[1]}")

    sys.addaudithook(refuse_others)
