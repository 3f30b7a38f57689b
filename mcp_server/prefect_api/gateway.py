"""Calls Prefect's REST API; no other module does."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from copy import copy
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any, Final, TypeVar

import httpx2
from pydantic import TypeAdapter

from flows.core import names
from flows.core.errors import EngineUnavailable, OumiFlowsError
from flows.core.prefect_states import PrefectState
from flows.core.proxies import is_loopback
from flows.core.run_labels import RunLabels
from mcp_server.prefect_api.answers import (
    BUSY,
    checked_answer,
    expect,
    is_json,
    no_answer,
    no_deployment,
    no_prefect,
    read_answer,
)
from mcp_server.prefect_api.connections import EngineConnection, EngineSource
from mcp_server.prefect_api.late_calls import LateCalls
from mcp_server.prefect_api.models import (
    Artifact,
    FlowRun,
    Identified,
    JudgedState,
    LogLine,
    RunState,
)
from mcp_server.prefect_api.run_filter import RunFilter

MAX_PAGE: Final = 200
"""The largest limit that Prefect 3.9 accepts; a larger one is a 422."""

_HEARTBEATS: Final = timedelta(seconds=65)
"""A live worker sends two heartbeats in this time (prefect 3.8)."""

_BUSY_DELAYS: Final = (0.2, 0.5, 1.0, 2.0)
_NAMING_SECONDS: Final = 0.15
_LAST_NAMES_SECONDS: Final = 1.0
_NEVER_LEFT: Final = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)
_T = TypeVar("_T")
_RUN = TypeAdapter(FlowRun)
_NAMED = TypeAdapter(Identified)
_JUDGED = TypeAdapter(JudgedState)
_OBJECTS = TypeAdapter(list[dict[str, Any]])
_RUNS = TypeAdapter(list[FlowRun])
_STATES = TypeAdapter(list[RunState])
_ARTIFACTS = TypeAdapter(list[Artifact])
_LOG_LINES = TypeAdapter(list[LogLine])


class PrefectGateway:
    """Small methods over Prefect's REST API; every failure of it is one of our errors.

    Args:
        engine: Where the Prefect server is.
        timeout_seconds: Limit of one call.
        work_pool: The pool that jobs are submitted to.
        transport: Carries the requests; None: the network.
        busy_delays: Waits in seconds before the repetitions of a call that the server is too busy
            for.
        naming_seconds: How long a call waits for the naming of a run.
    """

    def __init__(
        self,
        engine: EngineSource,
        *,
        timeout_seconds: float,
        work_pool: str = names.WORK_POOL,
        transport: httpx2.AsyncBaseTransport | None = None,
        busy_delays: Sequence[float] = _BUSY_DELAYS,
        naming_seconds: float = _NAMING_SECONDS,
    ) -> None:
        self.engine = engine
        self._busy_delays = busy_delays
        self._naming_seconds = naming_seconds
        self.work_pool = work_pool
        self._timeout_seconds = timeout_seconds
        self._transport = transport
        self._deployments: dict[tuple[str, str], str] = {}
        self._naming = LateCalls()

    # Both are made at the first call: reading the system's certificates takes about 20 ms, which
    # would delay the handshake of an MCP client.
    @cached_property
    def _direct(self) -> httpx2.AsyncClient:
        """For the loopback, which no proxy may see."""
        return self._make_client(trust_env=False)

    @cached_property
    def _proxied(self) -> httpx2.AsyncClient:
        return self._make_client(trust_env=True)

    def _client_for(self, connection: EngineConnection) -> httpx2.AsyncClient:
        if is_loopback(connection.api_url):
            return self._direct
        try:
            return self._proxied
        except (ImportError, ValueError) as error:
            raise EngineUnavailable(
                f"A proxy of the environment cannot be used ({error})",
                "Correct ALL_PROXY, HTTPS_PROXY or HTTP_PROXY, or name the server in NO_PROXY",
            ) from error

    def _make_client(self, *, trust_env: bool) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(
            timeout=self._timeout_seconds, transport=self._transport, trust_env=trust_env
        )

    async def aclose(self) -> None:
        """Close the kept-alive connections, once the last runs are named."""
        await self._naming.finish(_LAST_NAMES_SECONDS)
        for name in ("_direct", "_proxied"):
            if name in self.__dict__:
                await self.__dict__[name].aclose()

    @property
    def is_found(self) -> bool:
        """Whether the engine was there at the last check; checks and starts nothing."""
        return getattr(self.engine, "known_connection", None) is not None

    async def ui_url(self) -> str | None:
        """Return the root of the Prefect UI, if there is one and the engine is up.

        The link only adds to an answer, so no error is raised.
        """
        with suppress(EngineUnavailable):
            return (await self.engine.connection()).ui_url
        return None

    def for_pool(self, work_pool: str | None) -> "PrefectGateway":
        """The adapter that submits to another work pool; None: this one."""
        if work_pool in (None, self.work_pool):
            return self
        other = copy(self)
        other.work_pool = work_pool
        other._deployments = {}
        return other

    async def create_run(
        self,
        *,
        name: str,
        parameters: Mapping[str, Any],
        tags: list[str],
        labels: RunLabels,
        idempotency_key: str,
        flow: str = names.FLOW_NAME,
        work_queue: str | None = None,
    ) -> FlowRun:
        """Create a run of a flow's deployment, or read the one made with the same key.

        Args:
            name: The run's name.
            parameters: The flow's parameters, as JSON.
            tags: The run's tags.
            labels: The run's labels.
            idempotency_key: Identifies this run.
            flow: The flow's name.
            work_queue: Queue of the work pool; None: the deployment's. Made if there is none.

        Raises:
            EngineUnavailable: The run was not made; or there was no answer, and the error says so.
        """
        body: dict[str, Any] = {
            "name": name,
            "parameters": parameters,
            "tags": tags,
            "labels": labels.with_changes(RunLabels(work_pool=self.work_pool)).as_labels(),
            "idempotency_key": idempotency_key,
            # They come from our own model; checking them costs the server 6 of 29 ms CPU
            # (prefect 3.8), which delays a burst of submissions.
            "enforce_parameter_schema": False,
        }
        if work_queue is not None:
            body["work_queue_name"] = work_queue
        for fresh in (False, True):
            deployment = await self._deployment_id(flow, fresh=fresh)
            answer = await self._create(f"/deployments/{deployment}/create_flow_run", body)
            if answer.status_code != 404:
                return read_answer(answer, _RUN)
        raise no_deployment(names.deployment(self.work_pool, flow=flow))

    async def rename_run(self, run_id: str, name: str) -> None:
        """Name a flow run; a busy server does it later. The worker that takes it names it, too."""

        async def rename() -> None:
            with suppress(OumiFlowsError):
                expect(await self._call("PATCH", f"/flow_runs/{run_id}", {"name": name}), run_id)

        await self._naming.make(rename(), wait_seconds=self._naming_seconds)

    async def read_run(self, run_id: str) -> FlowRun:
        """Read a flow run.

        Raises:
            JobNotFound: No flow run has this id.
        """
        answer = await self._call("GET", f"/flow_runs/{run_id}")
        return read_answer(expect(answer, run_id), _RUN)

    @property
    def deployment_name(self) -> str:
        """Read the ids of deployments that are no schedules."""
        return names.deployment_name(self.work_pool)

    async def filter_runs(
        self, wanted: RunFilter, *, limit: int, offset: int = 0, oldest_first: bool = False
    ) -> list[FlowRun]:
        """Read the flow runs that match, in the order of expected starts, latest first."""
        body = {
            "flow_runs": wanted.body(),
            "deployments": wanted.deployments(),
            "sort": f"EXPECTED_START_TIME_{'ASC' if oldest_first else 'DESC'}",
            "limit": min(limit, MAX_PAGE),
            "offset": offset,
        }
        return read_answer(await self._call("POST", "/flow_runs/filter", body), _RUNS)

    async def set_state(
        self,
        run_id: str,
        state: PrefectState,
        *,
        message: str,
        repeatable: bool,
        force: bool = False,
    ) -> RunState:
        """Propose a state; return the state of the run after Prefect's decision.

        Args:
            run_id: The flow run.
            state: The state to propose.
            message: The state's message.
            repeatable: Whether proposing it twice has the same effect as once.
            force: Whether Prefect must accept it from whatever state the run has.
        """
        body: dict[str, Any] = {
            "state": {"type": state.type, "name": state.name, "message": message},
            "force": force,
        }
        answer = await self._call(
            "POST", f"/flow_runs/{run_id}/set_state", body, repeatable=repeatable
        )
        result = read_answer(expect(answer, run_id), _JUDGED)
        return result.state or (await self.read_run(run_id)).state

    async def patch_labels(self, run_id: str, changes: RunLabels) -> None:
        """Change the labels of a flow run."""
        path = f"/flow_runs/{run_id}/labels"
        expect(await self._call("PATCH", path, changes.as_labels()), run_id)

    async def read_artifacts(self, run_ids: list[str], *, artifact_type: str) -> list[Artifact]:
        """Read artifacts of flow runs, last updated first."""
        body = {
            "artifacts": {"flow_run_id": {"any_": run_ids}, "type": {"any_": [artifact_type]}},
            "sort": "UPDATED_DESC",
            "limit": MAX_PAGE,
        }
        answer = await self._call("POST", "/artifacts/filter", body)
        return read_answer(answer, _ARTIFACTS)

    async def read_logs(
        self,
        run_id: str,
        *,
        limit: int,
        offset: int = 0,
        since: datetime | None = None,
        until: datetime | None = None,
        newest_first: bool = False,
    ) -> list[LogLine]:
        """Read lines of a flow run's log in Prefect, from one time to another, both included."""
        times = {"after_": since, "before_": until}
        timestamp = {key: time.isoformat() for key, time in times.items() if time}
        body = {
            "logs": {"flow_run_id": {"any_": [run_id]}, "timestamp": timestamp or None},
            "sort": "TIMESTAMP_DESC" if newest_first else "TIMESTAMP_ASC",
            "limit": min(limit, MAX_PAGE),
            "offset": offset,
        }
        return read_answer(await self._call("POST", "/logs/filter", body), _LOG_LINES)

    async def read_states(self, run_id: str) -> list[RunState]:
        """Read every state a flow run has been in, oldest first."""
        answer = await self._call("GET", f"/flow_run_states/?flow_run_id={run_id}")
        return sorted(read_answer(answer, _STATES), key=lambda state: state.timestamp)

    async def has_worker(self) -> bool:
        """Whether the pool has a worker, or one that is starting."""
        if (await self.engine.connection()).embedded:
            return True
        since = datetime.now(UTC) - _HEARTBEATS
        body = {"workers": {"last_heartbeat_time": {"after_": since.isoformat()}}}
        answer = await self._call("POST", f"/work_pools/{self.work_pool}/workers/filter", body)
        return answer.status_code != 404 and bool(read_answer(answer, _OBJECTS))

    async def ask(self, method: str, path: str, body: Any, shape: TypeAdapter[_T]) -> _T | None:
        """Make a repeatable call; return its answer, or None if its object does not exist."""
        answer = await self._call(method, path, body)
        return None if answer.status_code == 404 else read_answer(answer, shape)

    async def tell(self, method: str, path: str, body: Any = None) -> bool:
        """Make a repeatable call without an answer; False if its object does not exist."""
        answer = await self._call(method, path, body)
        return answer.status_code != 404 and checked_answer(answer).is_success

    async def _deployment_id(self, flow: str, *, fresh: bool) -> str:
        known = ((await self.engine.connection()).api_url, flow)
        if fresh or known not in self._deployments:
            deployment = names.deployment(self.work_pool, flow=flow)
            answer = await self._call("GET", f"/deployments/name/{deployment}")
            if answer.status_code == 404:
                raise no_deployment(deployment)
            self._deployments[known] = read_answer(answer, _NAMED).id
        return self._deployments[known]

    async def _create(self, path: str, body: Any) -> httpx2.Response:
        """Create an object with an idempotency key; repeat the call if its answer is lost."""
        connection = await self.engine.connection()
        lost, failure = False, None
        try:
            for patience in (self._timeout_seconds / 3, self._timeout_seconds * 2 / 3):
                if failure and not isinstance(failure, httpx2.TimeoutException):
                    connection = await self.engine.revive()
                try:
                    return await self._send(connection, "POST", path, body, timeout=patience)
                except httpx2.TransportError as error:
                    lost = lost or not isinstance(error, _NEVER_LEFT)
                    failure = error
            raise no_answer(connection.api_url, failure) from failure
        except EngineUnavailable as error:
            if not lost:
                raise
            raise EngineUnavailable(
                f"{error.what}; it is unknown whether Prefect accepted the submission",
                "Look for it in list_jobs or the Prefect UI before you submit it again, or run "
                "`oumi-flows doctor`",
            ) from error

    async def _call(
        self, method: str, path: str, body: Any = None, *, repeatable: bool = True
    ) -> httpx2.Response:
        """Call the API; repeat the call after restarting the engine, if that is safe."""
        connection = await self.engine.connection()
        try:
            return await self._send(connection, method, path, body)
        except httpx2.TransportError as error:
            # A request that never left is safe to send again, whatever it does.
            if isinstance(error, httpx2.TimeoutException) or not (
                repeatable or isinstance(error, httpx2.ConnectError)
            ):
                raise no_answer(connection.api_url, error) from error
        connection = await self.engine.revive()
        try:
            return await self._send(connection, method, path, body)
        except httpx2.TransportError as error:
            raise no_answer(connection.api_url, error) from error

    async def _send(
        self,
        connection: EngineConnection,
        method: str,
        path: str,
        body: Any,
        *,
        timeout: float | None = None,
    ) -> httpx2.Response:
        """Send one request; repeat it a few times while the server answers that it is busy."""
        for delay in (*self._busy_delays, None):
            if not connection.is_served:
                raise httpx2.ConnectError("The embedded server does not hold its port")
            try:
                answer = await self._client_for(connection).request(
                    method,
                    connection.api_url.rstrip("/") + path,
                    json=body,
                    headers=connection.headers,
                    timeout=timeout or self._timeout_seconds,
                )
            except (httpx2.DecodingError, httpx2.InvalidURL) as error:
                raise no_prefect(path, str(error)) from error
            if answer.status_code == 404 and not is_json(answer):
                raise no_prefect(path, "its status is 404")
            if answer.status_code not in BUSY or delay is None:
                return answer
            await asyncio.sleep(delay)
        raise AssertionError("unreachable")
