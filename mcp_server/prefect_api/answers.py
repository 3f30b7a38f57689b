"""Turns Prefect's answers into values, or into our errors."""

from typing import Final, TypeVar

import httpx2
from pydantic import TypeAdapter, ValidationError

from flows.core.errors import EngineUnavailable, InternalError, JobNotFound

BUSY: Final = frozenset({429, 502, 503})
"""Status codes of a Prefect server (or a proxy before it) that did not accept the request."""
_T = TypeVar("_T")


def expect(answer: httpx2.Response, run_id: str) -> httpx2.Response:
    """Check the answer about a flow run.

    Raises:
        JobNotFound: There is no such run.
        OumiFlowsError: Prefect refused or failed.
    """
    if answer.status_code == 404:
        raise job_not_found(run_id)
    return checked_answer(answer)


def read_answer(answer: httpx2.Response, shape: TypeAdapter[_T]) -> _T:
    """Parse an answer.

    Raises:
        EngineUnavailable: It has another form, so it does not come from Prefect.
    """
    checked_answer(answer)
    try:
        return shape.validate_json(answer.content)
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise no_prefect(
            answer.request.url.path, f"its form is unexpected at {where or 'its start'}"
        ) from error


def checked_answer(answer: httpx2.Response) -> httpx2.Response:
    """Check that an answer is a success.

    Raises:
        EngineUnavailable: Prefect failed or refused the credentials, or it is no Prefect server.
        InternalError: Prefect refused the request.
    """
    path, status = answer.request.url.path, answer.status_code
    if answer.is_success:
        return answer
    if status in (401, 403):
        raise EngineUnavailable(
            f"The Prefect server refused the credentials ({status})",
            "Set PREFECT_API_AUTH_STRING or PREFECT_API_KEY to what the server expects; "
            "`oumi-flows doctor` shows which server that is",
        )
    if answer.is_server_error or status in BUSY:
        raise EngineUnavailable(
            f"The Prefect server answered {status} to {path}",
            "Try again; if it happens again, run `oumi-flows doctor`",
        )
    if answer.is_client_error and is_json(answer):
        raise InternalError(
            f"The Prefect server answered {status} to {path}: {answer.text[:300]}",
            "Report this with your call",
        )
    raise no_prefect(path, f"its status is {status}")


def job_not_found(reference: str) -> JobNotFound:
    """Make the error for a reference that no job has."""
    return JobNotFound(
        f"No job has the id, id prefix or name {reference!r}", "List the jobs with list_jobs"
    )


def no_deployment(deployment: str) -> EngineUnavailable:
    """Make the error for a server that lacks our deployment."""
    return EngineUnavailable(
        f"The Prefect server has no deployment {deployment}",
        "Run `oumi-flows up`, or `prefect deploy --all` against your own server",
    )


def is_json(answer: httpx2.Response) -> bool:
    """Whether an answer is declared as JSON, as all of Prefect's are."""
    return answer.headers.get("content-type", "").startswith("application/json")


def no_answer(api_url: str, error: Exception | None) -> EngineUnavailable:
    """Describe a server that did not answer."""
    return EngineUnavailable(
        f"The Prefect server at {api_url} did not answer ({type(error).__name__})",
        "Run `oumi-flows doctor`",
    )


def no_prefect(path: str, reason: str) -> EngineUnavailable:
    """Make the error for an answer that no Prefect server gives."""
    return EngineUnavailable(
        f"The server that answers {path} is no known Prefect server: {reason}",
        "Run `oumi-flows doctor`; see that PREFECT_API_URL, if it is set, names a Prefect 3.9 "
        "server",
    )
