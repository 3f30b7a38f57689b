"""The extension `io.modelcontextprotocol/tasks`."""

import json
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Annotated, Any

from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.extension import Extension, MethodBinding
from mcp.server.mcpserver.server import require_client_extension
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    CallToolRequestParams,
    CallToolResult,
    RequestParams,
)
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import Field

from flows.core.errors import JobNotFound, OumiFlowsError, ReadOnly
from mcp_server.prefect_api.models import FlowRun
from mcp_server.services.jobs.service import Until
from mcp_server.services.jobs.waits import JobWaits
from mcp_server.tasks.answers import describe_new_task, describe_result, describe_task
from mcp_server.tasks.declared import TASKS, declares_tasks
from mcp_server.tasks.task_id import TOOLS, WAIT_TOOL, TaskId
from mcp_server.tools.edge import as_tool_error

_Context = ServerRequestContext[Any, Any]


class TaskParams(RequestParams):
    """Names a task; `tasks/update` gives answers besides, which no task of ours asks for."""

    task_id: Annotated[str, Field(max_length=300)]


class TaskExtension(Extension):
    """Makes tasks of calls that wait for a job, and answers for them.

    Args:
        waits: Use cases of waits.
        read_only: Whether the server refuses every change.
        now: The clock.
    """

    identifier = TASKS

    def __init__(
        self,
        waits: JobWaits,
        *,
        read_only: bool,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._waits = waits
        self._read_only = read_only
        self._now = now

    def methods(self) -> Sequence[MethodBinding]:
        """The methods of the extension."""
        versions = frozenset(MODERN_PROTOCOL_VERSIONS)
        return [
            MethodBinding(f"tasks/{name}", TaskParams, handler, protocol_versions=versions)
            for name, handler in (
                ("get", self._get),
                ("update", self._update),
                ("cancel", self._cancel),
            )
        ]

    async def intercept_tool_call(
        self, params: CallToolRequestParams, ctx: _Context, call_next: CallNext
    ) -> HandlerResult:
        """Answer a task if the request declares the extension and its job is not over yet."""
        result = await call_next(ctx)
        if not (isinstance(result, CallToolResult) and declares_tasks(ctx)):
            return result
        answer, arguments = result.structured_content, params.arguments or {}
        if result.is_error or not answer or not _waits(params.name, arguments):
            return result
        if answer.get("job_id") is None or answer.get("is_done"):
            return result
        async with _as_protocol_error():
            return await self._make(params.name, arguments, answer)

    async def describe(self, task_id: str) -> dict[str, Any]:
        """Describe the present state of a task.

        Raises:
            MCPError: There is no such task, or the engine does not answer.
        """
        async with _as_protocol_error():
            task, run = await self._find(task_id)
            wait = await self._waits.look(run, until=task.until, since=task.since)
            return describe_task(task, wait, self._now())

    async def _make(
        self, tool: str, arguments: dict[str, Any], answer: dict[str, Any]
    ) -> HandlerResult:
        run = await self._waits.find(answer["job_id"])
        until, now = Until(arguments.get("until") or Until.DONE), self._now()
        if tool == WAIT_TOOL:
            task = TaskId(tool, until, run.id, now, run.state.timestamp)
        else:
            kept = json.dumps(answer, ensure_ascii=False, separators=(",", ":"))
            await self._waits.keep_answer(run, kept)
            labels = run.labels.model_copy(update={"submission": kept})
            run = run.model_copy(update={"labels": labels})
            task = TaskId(tool, until, run.id, run.created, run.created)
        wait = await self._waits.look(run, until=until, since=task.since)
        if wait.ended_by is not None:
            return describe_result(task, wait)
        return describe_new_task(task, wait, now)

    async def _get(self, ctx: _Context, params: TaskParams) -> HandlerResult:
        require_client_extension(ctx, TASKS)
        return await self.describe(params.task_id)

    async def _update(self, ctx: _Context, params: TaskParams) -> HandlerResult:
        require_client_extension(ctx, TASKS)
        async with _as_protocol_error():
            await self._find(params.task_id)
        return {}

    async def _cancel(self, ctx: _Context, params: TaskParams) -> HandlerResult:
        require_client_extension(ctx, TASKS)
        async with _as_protocol_error():
            task, run = await self._find(params.task_id)
            if self._read_only:
                raise ReadOnly(
                    "tasks/cancel ends a job and this server is read-only",
                    "Start the server without --read-only to allow it",
                )
            await self._waits.cancel(run, until=task.until, since=task.since)
        return {}

    async def _find(self, task_id: str) -> tuple[TaskId, FlowRun]:
        task = TaskId.parse(task_id)
        if task is None:
            raise JobNotFound(f"There is no task {task_id!r}", "Give an id that a call answered")
        return task, await self._waits.find(task.job_id)


def _waits(tool: str, arguments: dict[str, Any]) -> bool:
    """Whether a call that has just succeeded waits for a job."""
    if tool == WAIT_TOOL:
        count = len(arguments.get("job_ids") or ()) + bool(arguments.get("job_id"))
        is_plain = count == 1 and not arguments.get("condition")
        return is_plain and arguments.get("timeout_seconds") != 0
    return tool in TOOLS and bool(arguments.get("wait"))


@asynccontextmanager
async def _as_protocol_error() -> AsyncGenerator[None]:
    """Raise our errors as errors of the protocol: a task only ends with its job."""
    try:
        yield
    except OumiFlowsError as error:
        code = INVALID_PARAMS if isinstance(error, JobNotFound | ReadOnly) else INTERNAL_ERROR
        raise MCPError(code=code, message=str(as_tool_error(error))) from error
