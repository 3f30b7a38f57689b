"""What the server says of a task, in the shapes of the extension."""

import json
from datetime import datetime
from typing import Any, Final

from flows.core.models import JobStatus
from flows.core.redaction import own_redactor
from flows.core.states import JobState
from mcp_server.inert_text import one_line
from mcp_server.services.jobs.waits import Wait
from mcp_server.tasks.task_id import WAIT_TOOL, TaskId
from mcp_server.tools.edge import structured_result
from mcp_server.tools.waiting import news_of

_SHORTEST_MS: Final = 1_000
_LONGEST_MS: Final = 60_000
_POLLS_IN_AN_AGE: Final = 60
"""A job of an hour is polled once a minute."""


def describe_new_task(task: TaskId, wait: Wait, now: datetime) -> dict[str, Any]:
    """Describe a task that was just made, as the answer of the call."""
    return {"resultType": "task", **_describe(task, wait, now, "working")}


def describe_task(task: TaskId, wait: Wait, now: datetime) -> dict[str, Any]:
    """Describe a task with its result, as `tasks/get` answers."""
    if wait.ended_by is None:
        return _describe(task, wait, now, "working")
    if wait.ended_by is JobState.CANCELLED:
        return _describe(task, wait, now, "cancelled")
    return {**_describe(task, wait, now, "completed"), "result": describe_result(task, wait)}


def describe_result(task: TaskId, wait: Wait) -> dict[str, Any]:
    """Return what the call would have answered."""
    fields = _result(task, wait.status, wait.run.labels.submission)
    return structured_result(fields).model_dump(mode="json", by_alias=True, exclude_none=True)


def _result(task: TaskId, status: JobStatus, submission: str | None) -> dict[str, Any]:
    if task.tool == WAIT_TOOL or submission is None:
        return status.model_dump(mode="json", by_alias=True)
    return json.loads(submission) | news_of(status)


def _describe(task: TaskId, wait: Wait, now: datetime, status: str) -> dict[str, Any]:
    age_ms = int((now - wait.run.created).total_seconds() * 1000)
    poll_ms = min(max(age_ms // _POLLS_IN_AN_AGE, _SHORTEST_MS), _LONGEST_MS)
    return {
        "taskId": str(task),
        "status": status,
        "statusMessage": one_line(own_redactor().text(wait.status.summary)),
        "createdAt": task.created_at.isoformat(),
        "lastUpdatedAt": max(task.created_at, wait.run.state.timestamp).isoformat(),
        "ttlMs": None,
        "pollIntervalMs": poll_ms,
    }
