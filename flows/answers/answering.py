"""Makes a flow answer a question of the MCP server: its value becomes an artifact of the run."""

from collections.abc import Awaitable, Callable, Mapping
from functools import wraps
from typing import Any, Final, ParamSpec

from prefect import Flow
from prefect.client.schemas.actions import ArtifactCreate
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from flows.core.errors import OumiFlowsError
from flows.core.models import Answer
from flows.core.names import ANSWER_ARTIFACT
from flows.core.redaction import own_redactor
from flows.job.run_record import RunRecord

P = ParamSpec("P")

_VALUE: Final = "__wrapped__"
"""Where `functools.wraps` keeps the function that returns the value."""


def answering(
    function: Callable[P, Awaitable[Answer]],
) -> "Callable[P, Awaitable[State[Any]]]":
    """Make a flow function answer; write it below `@flow`.

    Its value becomes an artifact of the run, and its summary the message of the state Completed.
    An `OumiFlowsError` becomes the message of the state Failed, which
    `mcp_server.services.worker_calls` turns into the same error again.
    """

    @wraps(function)
    async def answer(*args: P.args, **kwargs: P.kwargs) -> "State[Any]":
        hide = own_redactor().data
        try:
            value = await function(*args, **kwargs)
        except OumiFlowsError as error:
            return Failed(message=hide(str(error)))
        await RunRecord.current().keep_artifact(
            ArtifactCreate(type=ANSWER_ARTIFACT, data=hide(value.model_dump(mode="json")))
        )
        return Completed(message=hide(value.summary))

    # Prefect reads the parameters of a flow from the wrapped function, its result from this one.
    answer.__annotations__ = {**function.__annotations__, "return": State}
    return answer


async def answer_of(flow: Flow[Any, Any], parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The answer of a flow that answers, without a run of it: what its artifact would hold.

    Raises:
        OumiFlowsError: The flow raised it.
    """
    value: Answer = await getattr(flow.fn, _VALUE)(**flow.validate_parameters(dict(parameters)))
    return own_redactor().data(value.model_dump(mode="json"))
