"""Values that describe the engine."""

import base64
from datetime import datetime
from enum import StrEnum
from urllib.parse import urlsplit

from pydantic import Field

from flows.core.live_processes import ProcessRecord
from flows.core.models import Value
from flows.core.server_record import SERVER_HOST


class Connection(Value):
    """Where a Prefect server is and how to speak to it."""

    api_url: str
    auth_string: str | None = Field(default=None, repr=False)
    api_key: str | None = Field(default=None, repr=False)
    ui_url: str
    embedded: bool = Field(description="Whether the server is the one we start ourselves.")
    process: ProcessRecord | None = Field(
        default=None, repr=False, description="The process of the one we start ourselves."
    )

    @property
    def is_served(self) -> bool:
        """Whether we may send credentials: the process that we started lives and holds the port.

        For a server elsewhere always True: a person named it.
        """
        if not self.embedded:
            return True
        port = urlsplit(self.api_url).port
        return self.process is not None and bool(port) and self.process.holds(SERVER_HOST, port)

    @property
    def headers(self) -> dict[str, str]:
        """The HTTP headers that authorise a request."""
        if self.auth_string is not None:
            token = base64.b64encode(self.auth_string.encode()).decode()
            return {"Authorization": f"Basic {token}"}
        if self.api_key is not None:
            return {"Authorization": f"Bearer {self.api_key}"}
        return {}


class ServerStatus(Value):
    """The Prefect server; the fields of its process are None where it is not ours."""

    url: str | None = None
    pid: int | None = None
    alive: bool = Field(default=False, description="Whether its process lives.")
    healthy: bool = Field(default=False, description="Whether it answers us.")
    version: str | None = Field(default=None, description="Prefect's version.")
    log_path: str | None = None
    started_at: datetime | None = None
    rss_bytes: int | None = None


class WorkerStatus(Value):
    """The worker of this machine."""

    name: str
    pid: int | None = None
    alive: bool = Field(default=False, description="Whether its process lives.")
    online: bool = Field(default=False, description="Whether its heartbeat reaches the server.")
    warm: bool = Field(default=False, description="Whether it has loaded Oumi.")
    version: str | None = Field(default=None, description="Version of oumi-flows it runs.")
    log_path: str | None = None
    started_at: datetime | None = None
    rss_bytes: int | None = None


class EngineStatus(Value):
    """One look at the engine."""

    summary: str
    embedded: bool
    api_url: str | None = None
    ui_url: str | None = None
    auth_path: str | None = Field(
        default=None, description="File with the user and password that the UI asks for."
    )
    server: ServerStatus
    worker: WorkerStatus
    deployed: bool = Field(description="Whether the server has our current deployment.")
    version: str = Field(description="Version of oumi-flows that is installed.")
    problem: str | None = None
    fix: str | None = None


class EngineSeverity(StrEnum):
    """How bad a finding is."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


class EngineFinding(Value):
    """Something the doctor checked."""

    severity: EngineSeverity
    subject: str
    what: str
    fix: str = Field(default="", description="How to fix it; empty if nothing is wrong.")
