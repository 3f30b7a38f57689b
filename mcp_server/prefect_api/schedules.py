"""Calls for schedules. Each schedule is a deployment of its own.

Prefect (3.8) removes all planned runs of a deployment when one of its schedules is paused, changed
or deleted. With a deployment each, no schedule can affect another's runs, and the Prefect UI shows
each under its own name, with its own runs, switch and statistics.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from pydantic import TypeAdapter

from flows.core import names
from flows.core.errors import EngineUnavailable
from flows.core.run_labels import RunLabels
from mcp_server.prefect_api.answers import no_deployment
from mcp_server.prefect_api.gateway import MAX_PAGE, PrefectGateway
from mcp_server.prefect_api.models import Deployment, FlowRun

_DEPLOYMENT = TypeAdapter(Deployment)
_DEPLOYMENTS = TypeAdapter(list[Deployment])
_COUNT = TypeAdapter(int)
_RUN = TypeAdapter(FlowRun)
_RUNS = TypeAdapter(list[FlowRun])

NOT_STARTED: Final[Mapping[str, Any]] = {"state": {"type": {"any_": ["SCHEDULED"]}}}
"""Filter of runs that have not started, or that wait for another attempt."""
STARTED: Final[Mapping[str, Any]] = {
    "state": {"type": {"any_": ["PENDING", "RUNNING", "PAUSED", "CANCELLING"]}}
}
"""Filter of runs that have started and not ended."""

_YEARS_SECONDS: Final = 10 * 366 * 86_400


class ScheduleGateway:
    """Small methods over Prefect's REST API, for schedules.

    Args:
        gateway: Calls the API.
        work_pool: The pool that jobs are submitted to.
    """

    def __init__(self, gateway: PrefectGateway, *, work_pool: str = names.WORK_POOL) -> None:
        self._gateway = gateway
        self._work_pool = work_pool

    async def ui_url(self) -> str | None:
        """Return the root of the Prefect UI, if there is one."""
        return await self._gateway.ui_url()

    async def create(
        self,
        *,
        name: str,
        description: str,
        schedule: Mapping[str, Any] | None,
        parameters: Mapping[str, Any],
        tags: list[str],
        labels: RunLabels,
        flow: str = names.FLOW_NAME,
        work_queue: str | None = None,
    ) -> Deployment:
        """Create a deployment like the flow's own, or replace the one of that name.

        Args:
            name: The deployment's name.
            description: Its text in the UI.
            schedule: When it fires; None: never by itself.
            parameters: The flow's parameters.
            tags: Tags of the deployment and its runs.
            labels: Labels of the deployment and its runs.
            flow: The flow's name.
            work_queue: Queue of its runs; None: the pool's default.
        """
        known = names.deployment(self._work_pool, flow=flow)
        own = await self.by_name(known)
        if own is None:
            raise no_deployment(known)
        body: dict[str, Any] = {
            "name": name,
            "description": description,
            "flow_id": own.flow_id,
            "entrypoint": own.entrypoint,
            "path": own.path,
            "pull_steps": own.pull_steps,
            "parameter_openapi_schema": own.parameter_openapi_schema,
            "enforce_parameter_schema": False,
            "work_pool_name": own.work_pool_name,
            "parameters": parameters,
            "tags": tags,
            "labels": labels.as_labels(),
            "schedules": [{"schedule": schedule, "active": True}] if schedule else [],
        }
        if work_queue is not None:
            body["work_queue_name"] = work_queue
        created = await self._gateway.ask("POST", "/deployments/", body, _DEPLOYMENT)
        if created is None:
            raise EngineUnavailable(
                f"The Prefect server has no work pool {own.work_pool_name}",
                "Run `oumi-flows up`, which creates it",
            )
        return created

    async def by_id(self, deployment_id: str) -> Deployment | None:
        """Read a deployment."""
        return await self._gateway.ask("GET", f"/deployments/{deployment_id}", None, _DEPLOYMENT)

    async def by_name(self, name: str) -> Deployment | None:
        """Read a deployment by its flow's name and its own, joined by a slash."""
        return await self._gateway.ask("GET", f"/deployments/name/{name}", None, _DEPLOYMENT)

    async def schedules(self, *, limit: int = MAX_PAGE, offset: int = 0) -> list[Deployment]:
        """Read schedules in the order of their names; those made in the Prefect UI come last."""
        ours = {"tags": {"all_": [names.SCHEDULE_TAG]}}
        body = {"deployments": ours, "sort": "NAME_ASC", "limit": limit, "offset": offset}
        page = await self._gateway.ask("POST", "/deployments/filter", body, _DEPLOYMENTS) or []
        if len(page) == limit:
            return page
        guests = await self.guests()
        if guests and offset and not page:
            wanted = {"deployments": ours}
            count = await self._gateway.ask("POST", "/deployments/count", wanted, _COUNT) or 0
            offset -= count
        else:
            offset = 0
        return [*page, *guests[offset : offset + limit - len(page)]]

    async def guests(self) -> list[Deployment]:
        """Read the schedules that people gave our deployments in the Prefect UI."""
        body = {
            "flows": {"name": {"any_": sorted(names.JOB_FLOWS)}},
            "sort": "NAME_ASC",
            "limit": MAX_PAGE,
        }
        found = await self._gateway.ask("POST", "/deployments/filter", body, _DEPLOYMENTS) or []
        # One with the label is a schedule of ours, or was one.
        return [guest for one in found if one.labels.schedule is None for guest in one.guests()]

    async def plan_runs(self, deployment: Deployment, *, now: datetime, count: int) -> None:
        """Make Prefect create the next runs that are missing at once.

        Its own service does so every minute, for three runs and an hour ahead, at most 100 days.
        """
        end = datetime.fromtimestamp(now.timestamp() + _YEARS_SECONDS, tz=now.tzinfo)
        body = {"end_time": end.isoformat(), "min_runs": count}
        await self._gateway.tell("POST", f"/deployments/{deployment.deployment_id}/schedule", body)

    async def create_run_at(
        self, deployment_id: str, at: datetime, *, name: str, labels: RunLabels
    ) -> FlowRun | None:
        """Create the single run of a deployment without a schedule, or read it."""
        body = {
            "name": name,
            "labels": labels.as_labels(),
            "state": _scheduled_state(at),
            "idempotency_key": "at",
            "enforce_parameter_schema": False,
        }
        path = f"/deployments/{deployment_id}/create_flow_run"
        return await self._gateway.ask("POST", path, body, _RUN)

    async def put_back(self, run_id: str, at: datetime) -> None:
        """Move the start of a run to `at`."""
        body = {"state": _scheduled_state(at)}
        await self._gateway.tell("POST", f"/flow_runs/{run_id}/set_state", body)

    async def runs(
        self, deployment: Deployment, wanted: Mapping[str, Any], *, newest_first: bool, limit: int
    ) -> list[FlowRun]:
        """Read runs of a schedule that match a filter of Prefect's."""
        body = {
            "flow_runs": {"deployment_id": {"any_": [deployment.deployment_id]}, **wanted},
            "sort": f"EXPECTED_START_TIME_{'DESC' if newest_first else 'ASC'}",
            "limit": MAX_PAGE if deployment.host_id else limit,
        }
        found = await self._gateway.ask("POST", "/flow_runs/filter", body, _RUNS) or []
        if deployment.host_id:  # its deployment has other runs, too
            found = [run for run in found if run.created_by and run.created_by.id == deployment.id]
        return found[:limit]

    async def pause(self, deployment: Deployment) -> bool:
        """Pause a schedule; False if it does not exist."""
        path = f"/deployments/{deployment.deployment_id}"
        if deployment.host_id:
            return await self._gateway.tell(
                "PATCH", f"{path}/schedules/{deployment.id}", {"active": False}
            )
        return await self._gateway.tell("POST", f"{path}/pause_deployment")

    async def resume(self, deployment: Deployment) -> bool:
        """Resume a schedule, however it was paused; False if it does not exist."""
        path = f"/deployments/{deployment.deployment_id}"
        for schedule in deployment.schedules:
            if not schedule.active:
                await self._gateway.tell(
                    "PATCH", f"{path}/schedules/{schedule.id}", {"active": True}
                )
        return await self._gateway.tell("POST", f"{path}/resume_deployment")

    async def delete(self, deployment: Deployment) -> bool:
        """Delete a schedule; keep the runs it started. False if it does not exist.

        Prefect (3.8) starts no further attempt of a run whose deployment is gone: if the schedule
        had runs, keep its deployment, paused and no longer marked as a schedule.
        """
        path = f"/deployments/{deployment.deployment_id}"
        if deployment.host_id:
            return await self._gateway.tell("DELETE", f"{path}/schedules/{deployment.id}")
        began = {"start_time": {"is_null_": False}}
        if not await self.runs(deployment, began, newest_first=True, limit=1):
            return await self._gateway.tell("DELETE", path)
        body = {
            "tags": [tag for tag in deployment.tags if tag != names.SCHEDULE_TAG],
            "description": "A deleted schedule, kept so that its jobs can be retried.",
            "paused": True,
        }
        return await self._gateway.tell("PATCH", path, body)


def _scheduled_state(at: datetime) -> dict[str, Any]:
    return {
        "type": "SCHEDULED",
        "name": "Scheduled",
        "state_details": {"scheduled_time": at.isoformat()},
    }
