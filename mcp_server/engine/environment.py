"""The environment of the processes we start."""

from collections.abc import Mapping
from typing import Final

from flows.core.proxies import proxy_changes
from flows.core.settings import Settings
from mcp_server.engine.files import EngineFiles
from mcp_server.engine.values import Connection

_NOT_FOR_OTHERS: Final = "http_token"

_HEARTBEAT_SECONDS: Final = "8"
"""Between two heartbeats of a worker; less than `flows.job.intervals.Intervals.silent`."""

_LEAST_KEPT_SECONDS: Final = 3601
"""Prefect refuses an hour and less."""

_QUIET: Final = {"DO_NOT_TRACK": "1", "SKYPILOT_DISABLE_USAGE_COLLECTION": "1"}

# For a server that only we use. Prefect 3.9.1; the defaults are in parentheses.
_SERVER: Final = {
    "PREFECT__SERVER_FINAL": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    # A run that waits longer than this for a slot or a worker shows as Late (15). Not so early that
    # the runs of a burst do, each of which costs as much as another start.
    "PREFECT_SERVER_SERVICES_LATE_RUNS_AFTER_SECONDS": "10",
    # This service ends runs as Cancelled after 300 s of Cancelling, even if their job runs; here
    # the worker alone says that a job is gone. It also wakes every 20 s for each run cancelled
    # during the last day.
    "PREFECT_SERVER_SERVICES_CANCELLATION_CLEANUP_ENABLED": "false",
    # Plan ahead as many of the next times as `list_schedules` shows (3).
    "PREFECT_SERVER_SERVICES_SCHEDULER_MIN_RUNS": "5",
    # This service fails a paused run when its pause is over; here the worker has the job go on.
    "PREFECT_SERVER_SERVICES_PAUSE_EXPIRATIONS_ENABLED": "false",
    # Of no use to our runs, and each look costs an idle machine (5).
    "PREFECT_SERVER_SERVICES_CLEANUP_RECONCILER_LOOP_SECONDS": "60",
}


def _keep_runs(days: float) -> dict[str, str]:
    """Let Prefect delete ended runs after so many days, with their logs and artifacts."""
    seconds = max(_LEAST_KEPT_SECONDS, days * 86_400)
    return {
        "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",
        "PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD": f"{seconds:.0f}",
    }


def client_environment(
    connection: Connection, files: EngineFiles, environ: Mapping[str, str]
) -> dict[str, str]:
    """The variables with which a Prefect client uses the server at `connection`."""
    variables = {
        "PREFECT_API_URL": connection.api_url,
        "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
    }
    if connection.auth_string is not None:
        variables["PREFECT_API_AUTH_STRING"] = connection.auth_string
    if connection.api_key is not None:
        variables["PREFECT_API_KEY"] = connection.api_key
    if connection.embedded:
        variables["PREFECT_HOME"] = str(files.prefect_home)
    return variables | proxy_changes(environ)


def server_environment(
    connection: Connection,
    files: EngineFiles,
    environ: Mapping[str, str],
    *,
    keep_days: float = 0,
) -> dict[str, str]:
    """The whole environment of the embedded server.

    Args:
        connection: Where it serves.
        files: Where its files are.
        environ: The person's environment.
        keep_days: How long it keeps ended runs, at least an hour; 0: for ever.
    """
    origin = connection.api_url.removesuffix("/api")
    return {
        **_inherit(environ, embedded=True),
        **proxy_changes(environ),
        **_QUIET,
        **_SERVER,
        **(_keep_runs(keep_days) if keep_days else {}),
        "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
        "PREFECT_HOME": str(files.prefect_home),
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{files.database}",
        "PREFECT_SERVER_API_AUTH_STRING": connection.auth_string or "",
        "PREFECT_API_AUTH_STRING": connection.auth_string or "",
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": origin,
        "PREFECT_UI_API_URL": connection.api_url,
        "PREFECT_UI_URL": connection.ui_url,
        # Its default is inside the installed package, which may be read-only.
        "PREFECT_UI_STATIC_DIRECTORY": str(files.ui),
    }


def worker_environment(
    connection: Connection, files: EngineFiles, environ: Mapping[str, str], settings: Settings
) -> dict[str, str]:
    """The whole environment of a worker, or of another Prefect command run for the engine."""
    ours = {
        f"OUMI_FLOWS_{name.upper()}": str(getattr(settings, name))
        for name in settings.model_fields_set | {"home"}
        if name != _NOT_FOR_OTHERS and getattr(settings, name) is not None
    }
    return {
        **_inherit(environ, embedded=connection.embedded),
        **_QUIET,
        **client_environment(connection, files, environ),
        # Prefect calls a worker offline after three missed ones.
        "PREFECT_WORKER_HEARTBEAT_SECONDS": _HEARTBEAT_SECONDS,
        "PREFECT_WORKER_QUERY_SECONDS": str(settings.worker_poll_seconds),
        **ours,
    }


def _inherit(environ: Mapping[str, str], *, embedded: bool) -> dict[str, str]:
    """Return the person's environment, less what would misdirect an embedded engine."""
    return {
        name: value
        for name, value in environ.items()
        if name.upper() != f"OUMI_FLOWS_{_NOT_FOR_OTHERS.upper()}"
        and not (embedded and name.upper().startswith("PREFECT_"))
    }
