"""Applies prefect.yaml, the one definition of what a Prefect server runs for us."""

import hashlib
import json
import subprocess
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Protocol

from pydantic import BaseModel, TypeAdapter

from flows.core.errors import EngineUnavailable
from flows.core.models import JobRequest, Value
from flows.core.names import CALL_QUEUE, CLOUD_QUEUE, WORKER_TYPE, deployment, deployment_name
from flows.core.private_files import open_private, write_private
from flows.core.settings import Settings
from mcp_server.engine.environment import worker_environment
from mcp_server.engine.files import EngineFiles, last_words
from mcp_server.engine.rest import Rest
from mcp_server.engine.values import Connection
from oumi_flows import python_command

_FILE: Final = "prefect.yaml"
_PACKAGE: Final = Path(__file__).parents[1]
_ANY: Final[TypeAdapter[Any]] = TypeAdapter(Any)


class RunPrefect(Protocol):
    """Runs the Prefect command; returns how it failed, or an empty text."""

    def __call__(
        self,
        arguments: list[str],
        *,
        env: Mapping[str, str],
        cwd: Path,
        log_fd: int,
        timeout: float,
    ) -> str:
        """Run it with `arguments`, its output in `log_fd`, for `timeout` seconds at most."""
        ...


class DeployedRecord(Value):
    """What was applied, and the deployment that a server made of it."""

    digest: str
    deployment_id: str


class _Deployment(BaseModel):
    id: str
    work_pool_name: str | None = None


class _WorkPool(BaseModel):
    type: str
    base_job_template: Any = None


_DEPLOYMENT: Final = TypeAdapter(_Deployment)
_POOL: Final = TypeAdapter(_WorkPool)
_NO_VARIABLES: Final[dict[str, Any]] = {
    "job_configuration": {"name": None},
    "variables": {"type": "object", "properties": {}},
}
"""A worker of ours makes no infrastructure that variables could describe. For each new run the
server (prefect 3.9) checks the pool's schema of them, which with the four that Prefect's base class
has takes a fifth of the time of a submission."""


class Deployments:
    """Applies and verifies the deployments. The caller holds the lock for what changes them.

    Args:
        files: Where the record is.
        settings: The work pool, and the time applying may take.
        environ: What the Prefect command inherits.
        version: The version of oumi-flows that is installed.
        definition: The file to apply; None: ours.
        run: Runs the Prefect command.
    """

    def __init__(
        self,
        files: EngineFiles,
        settings: Settings,
        environ: Mapping[str, str],
        *,
        version: str,
        definition: Path | None = None,
        run: RunPrefect | None = None,
    ) -> None:
        self._run = run or run_prefect
        self._files = files
        self._settings = settings
        self._environ = environ
        self._version = version
        self._definition = definition or _find_definition()
        self._name = deployment(settings.work_pool)
        self._were_ours = False

    def are_current(self, api: Rest) -> bool:
        """Whether the server has our definition, or one that replaced it while this process lives.

        Once this process has applied its own, it leaves a later one in place: otherwise processes
        of two versions would replace each other's for ever.
        """
        record = self._files.read(self._files.deployed_record, DeployedRecord)
        if record is None or self._deployment_id(api) != record.deployment_id:
            return False
        self._were_ours = self._were_ours or record.digest == self._digest
        return self._were_ours

    def are_of_another_version(self) -> bool:
        """Whether another version than this one applied what the server has."""
        record = self._files.read(self._files.deployed_record, DeployedRecord)
        return record is not None and record.digest != self._digest and not self._were_ours

    def exist(self, api: Rest) -> bool:
        """Whether the server takes our jobs, from any process that applied the definition."""
        return self._deployment_id(api) is not None

    def ensure_pool(self, api: Rest) -> None:
        """Create the work pool and its queues, if the server has none of that name.

        The server hands a worker 200 runs at a time (prefect 3.9). Runs that a caller waits for,
        and runs that need no slot, must not queue behind any number of local jobs.
        """
        pool = self._settings.work_pool
        found = api.get(f"/work_pools/{pool}", _POOL)
        if found is None:
            wanted = {"name": pool, "type": WORKER_TYPE, "base_job_template": _NO_VARIABLES}
            api.post("/work_pools/", wanted, _ANY)
        elif found.type == WORKER_TYPE and found.base_job_template != _NO_VARIABLES:
            api.patch(f"/work_pools/{pool}", {"base_job_template": _NO_VARIABLES})
        for priority, queue in enumerate((CALL_QUEUE, CLOUD_QUEUE), start=1):
            if api.get(f"/work_pools/{pool}/queues/{queue}", _ANY) is None:
                wanted = {"name": queue, "priority": priority}
                api.post(f"/work_pools/{pool}/queues", wanted, _ANY)

    def apply(self, connection: Connection, api: Rest) -> None:
        """Apply the definition with Prefect's own command.

        Raises:
            EngineUnavailable: The command failed; carries the end of its output.
        """
        self._files.deploy_log.unlink(missing_ok=True)
        with self._files.explain_errors():
            log = open_private(self._files.deploy_log, "wb")
        with log:
            ended = self._run(
                ["--no-prompt", "deploy", "--all", "--prefect-file", str(self._render())],
                env=worker_environment(connection, self._files, self._environ, self._settings),
                cwd=self._files.folder,
                log_fd=log.fileno(),
                timeout=self._settings.engine_timeout_seconds,
            )
        found = self._deployment_id(api)
        if ended or found is None:
            raise EngineUnavailable(
                f"`prefect deploy` of {self._definition} {ended or 'made no ' + self._name}. Its "
                f"output says: {last_words(self._files.deploy_log) or 'nothing'}",
                f"Fix that, then run `oumi-flows up`; the whole output is in "
                f"{self._files.deploy_log}",
            )
        self._files.write(
            self._files.deployed_record,
            DeployedRecord(digest=self._digest, deployment_id=found),
        )
        self._were_ours = True

    def _deployment_id(self, api: Rest) -> str | None:
        found = api.get(f"/deployments/name/{self._name}", _DEPLOYMENT)
        if found is None or found.work_pool_name != self._settings.work_pool:
            return None
        return found.id

    def _render(self) -> Path:
        """Write the definition with the work pool that is set; return its path."""
        import yaml

        with self._files.explain_errors():
            wanted = yaml.safe_load(self._definition.read_text())
            for entry in wanted["deployments"]:
                entry["name"] = deployment_name(self._settings.work_pool)
                entry["work_pool"]["name"] = self._settings.work_pool
            write_private(self._files.rendered, yaml.safe_dump(wanted, sort_keys=False))
        return self._files.rendered

    @cached_property
    def _digest(self) -> str:
        """Hash of what we would apply: definition, pool, version and the job's parameters."""
        with self._files.explain_errors():
            definition = self._definition.read_text()
        parts = [definition, self._settings.work_pool, self._version, _parameters()]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def run_prefect(
    arguments: list[str], *, env: Mapping[str, str], cwd: Path, log_fd: int, timeout: float
) -> str:
    """Run the Prefect command; return how it failed, or an empty text."""
    try:
        done = subprocess.run(
            python_command("prefect", *arguments),
            env=dict(env),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=log_fd,
            stderr=log_fd,
            timeout=timeout,
            start_new_session=True,
            umask=0o077,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"took more than {timeout:g} s"
    except OSError as error:
        return f"could not be started ({error})"
    return f"exited with {done.returncode}" if done.returncode else ""


def _parameters() -> str:
    return json.dumps(JobRequest.model_json_schema(), sort_keys=True)


def _find_definition() -> Path:
    """Find the file: in an installed package beside its modules, in a clone at its top."""
    packaged = _PACKAGE / _FILE
    return packaged if packaged.exists() else _PACKAGE.parent / _FILE
