"""The engine: a Prefect server and a worker of this machine, or a Prefect server elsewhere."""

from mcp_server.engine.engine import Engine
from mcp_server.engine.values import (
    Connection,
    EngineFinding,
    EngineSeverity,
    EngineStatus,
    ServerStatus,
    WorkerStatus,
)

__all__ = [
    "Connection",
    "Engine",
    "EngineFinding",
    "EngineSeverity",
    "EngineStatus",
    "ServerStatus",
    "WorkerStatus",
]
