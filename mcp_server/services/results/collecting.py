"""Copies what came out of a job to a folder here, as a job of its own."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from uuid import uuid4

import anyio.to_thread
from pydantic import Field, ValidationError

from flows.core import names
from flows.core.errors import InvalidArgument
from flows.core.file_names import exists, expand_home, is_folder
from flows.core.models import Value
from flows.core.results.choosing import check_what, choose
from flows.core.results.reading import find_here
from flows.core.results.targets import refuse_other_contents, refuse_other_sizes
from flows.core.results.values import CollectRequest
from flows.core.run_labels import RunLabels
from flows.core.states import JobState
from mcp_server.prefect_api.gateway import PrefectGateway
from mcp_server.prefect_api.models import FlowRun
from mcp_server.prefect_api.run_filter import RunFilter
from mcp_server.services.jobs.finding import LIVE, find_job
from mcp_server.services.jobs.status import run_url
from mcp_server.services.results.reading import has_files_here, results_request
from mcp_server.services.training.metrics import refuse_family

_PAGE: Final = 200
_COMPARED_BYTES: Final = 200_000_000
"""Bytes of files in the target that a call compares; the copy compares all."""


class StartedCollection(Value):
    """A copy of results that was started, or that runs already."""

    summary: str = Field(description="One line a person can read.")
    job_id: str = Field(description="Of the copy; wait_for_job, get_job_logs etc. take it.")
    name: str
    state: JobState
    into: str
    url: str | None = None


class CollectService:
    """Starts copies of results.

    Args:
        gateway: Prefect's API.
        snapshots_dir: Where configs are kept as submitted.
    """

    def __init__(self, gateway: PrefectGateway, *, snapshots_dir: Path) -> None:
        self._gateway = gateway
        self._snapshots_dir = snapshots_dir

    async def collect(
        self, reference: str, into: str, what: Sequence[str] = ()
    ) -> StartedCollection:
        """Start a copy of the results of a job; join one that runs with the same arguments.

        Args:
            reference: Id, unique id prefix or unique live name.
            into: Absolute target folder; made if it is missing.
            what: Which results; empty: all.

        Raises:
            JobNotFound: There is no such job.
            InvalidArgument: It has no results of its own, or the folder or `what` is not valid.
            Conflict: A file that differs is in the folder.
        """
        run = await find_job(self._gateway, reference)
        refuse_family(run)
        if run.command == names.COLLECT_COMMAND:
            raise InvalidArgument(
                f"{run.name} is itself a copy of results", "Name the job that made them"
            )
        check_what(what)
        folder = await anyio.to_thread.run_sync(_target, into)
        wanted = list(dict.fromkeys(what))
        live = await self._live(run, folder, wanted)
        if live is not None:
            return await self._describe_start(live, folder, f"{live.name} already copies this")
        name = f"collect-{run.name}"
        request = CollectRequest(
            source=results_request(run), source_name=run.name, into=folder, what=wanted
        )
        if await anyio.to_thread.run_sync(has_files_here, run):
            await anyio.to_thread.run_sync(_check, request, self._snapshots_dir)
        started = await self._start(name, request)
        return await self._describe_start(started, folder, f"Copying the results of {run.name}")

    async def _start(self, name: str, request: CollectRequest) -> FlowRun:
        """Start the flow run, and end its name with its id."""
        started = await self._gateway.create_run(
            name=name,
            parameters={"request": request.model_dump(mode="json")},
            tags=[names.TAG, f"{names.COMMAND_TAG}{names.COLLECT_COMMAND}"],
            labels=RunLabels(attempt=1),
            idempotency_key=uuid4().hex,
            flow=names.COLLECT_FLOW,
            # It waits for no slot.
            work_queue=names.CLOUD_QUEUE,
        )
        full_name = f"{name}-{started.id[:8]}"
        await self._gateway.rename_run(started.id, full_name)
        return started.model_copy(update={"name": full_name})

    async def _describe_start(self, run: FlowRun, folder: str, what: str) -> StartedCollection:
        return StartedCollection(
            summary=f"{what} into {folder} as job {run.id}. Wait for it with wait_for_job.",
            job_id=run.id,
            name=run.name,
            state=run.state.job_state,
            into=folder,
            url=run_url(await self._gateway.ui_url(), run.id),
        )

    async def _live(self, source: FlowRun, folder: str, what: list[str]) -> FlowRun | None:
        """Find a copy with the same arguments that has not ended."""
        tag = f"{names.COMMAND_TAG}{names.COLLECT_COMMAND}"
        states = LIVE - {JobState.CANCELLING}
        runs = await self._gateway.filter_runs(RunFilter(states=states, tags=(tag,)), limit=_PAGE)
        for run in runs:
            asked = _request_of(run)
            if asked and (asked.source.job_id, asked.into, asked.what) == (source.id, folder, what):
                return run
        return None


def _request_of(run: FlowRun) -> CollectRequest | None:
    try:
        return CollectRequest.model_validate(run.parameters.get("request"))
    except ValidationError:
        return None


def _target(into: str) -> str:
    """Check the target folder. Blocking.

    Raises:
        InvalidArgument: It is relative, or is a file.
    """
    if "\0" in into or not into.strip():
        raise InvalidArgument("into names no folder", "Give an absolute path")
    folder = Path(expand_home(into))
    if not folder.is_absolute() or ".." in folder.parts:
        raise InvalidArgument(f"into is {into!r}, which is not absolute", "Give an absolute path")
    if exists(folder) and not is_folder(folder):
        raise InvalidArgument(f"{folder} is a file", "Give a folder; it is made if it is missing")
    return str(folder)


def _check(request: CollectRequest, snapshots_dir: Path) -> None:
    """Refuse what the copy of a job of this machine would refuse. Blocking."""
    folder = Path(os.path.realpath(request.into))
    found = find_here(request.source, snapshots_dir)
    found.refuse_target(str(folder))
    files = choose(found, request.what)
    refuse_other_sizes(folder, files)
    refuse_other_contents(folder, files, limit=_COMPARED_BYTES)
