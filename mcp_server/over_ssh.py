"""A machine that a person or a client has reached over ssh."""

import os
import socket
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from flows.core.server_record import SERVER_HOST

_ENV: Final = "SSH_CONNECTION"
"""sshd sets it (ssh(1), "ENVIRONMENT")."""


def find_ssh_host(environ: Mapping[str, str]) -> str:
    """Find this machine's name if it was reached over ssh; else return an empty text."""
    return socket.gethostname() if environ.get(_ENV) else ""


def how_to_open(url: str | None, environ: Mapping[str, str] = os.environ) -> str:
    """Write the command with which a page of this machine opens on the person's; empty: none.

    Args:
        url: The page; None: there is none.
        environ: The environment of this process.
    """
    parts, host = urlsplit(url or ""), find_ssh_host(environ)
    if not host or parts.hostname != SERVER_HOST or parts.port is None:
        return ""
    return f"ssh -N -L {parts.port}:{SERVER_HOST}:{parts.port} {host}"
