"""SkyPilot's errors (skypilot 0.12), translated into those of flows.core.errors."""

import contextlib
from collections.abc import Generator
from functools import partial
from typing import Final

from flows.core.errors import (
    CloudUnavailable,
    ClusterNotFound,
    ClusterUnreachable,
    InvalidArgument,
    LaunchCancelled,
)
from flows.core.foreign_errors import first_line, translate_foreign, without_colours
from flows.launcher.port import ASKS_AGAIN

HOW_TO_START: Final = (
    "Start one with `sky api start` on the worker's machine, or set SKYPILOT_API_SERVER_ENDPOINT "
    "for the worker"
)


class NoServer(CloudUnavailable):
    """No API server of SkyPilot runs; it can be started."""


class SkyFailed(Exception):
    """SkyPilot, a cloud or a cluster's ssh failed; has the first line of what it says."""


@contextlib.contextmanager
def translate_errors(what: str) -> Generator[None]:
    """Translate every error of a request for `what`.

    The client raises what the server's own libraries raised: any builtin exception, and `Exception`
    itself for one that it does not know (skypilot 0.12, `deserialize_exception`).

    Raises:
        ClusterNotFound: SkyPilot knows no such cluster.
        ClusterUnreachable: The server did not answer.
        SkyFailed: Anything else.
    """
    with translate_foreign(partial(_translate, what)):
        yield


def _translate(what: str, error: Exception) -> Exception:
    from sky import exceptions

    if isinstance(error, exceptions.ClusterDoesNotExist):
        return ClusterNotFound(first_line(error), "See the clusters in list_clusters")
    if isinstance(error, cannot_be_asked()):
        return ClusterUnreachable(
            f"the SkyPilot API server could not be asked for {what}: {first_line(error)}",
            f"{ASKS_AGAIN}; if no server runs: {HOW_TO_START}",
        )
    return SkyFailed(first_line(error))


@contextlib.contextmanager
def translate_refusals(cluster_name: str, what: str) -> Generator[None]:
    """Translate the errors of a cluster that could not be stopped or taken down.

    Args:
        cluster_name: The cluster.
        what: ``stopped`` or ``taken down``.

    Raises:
        InvalidArgument: The cluster never can be.
        ClusterUnreachable: It failed this time.
    """
    from sky import exceptions

    try:
        yield
    except exceptions.NotSupportedError as error:
        raise InvalidArgument(
            f"cluster {cluster_name} cannot be {what}: {_one_line(error)}",
            "Take it down with down_cluster, or cancel its jobs",
        ) from error
    except (exceptions.ClusterDoesNotExist, exceptions.ApiServerConnectionError):
        raise
    except RuntimeError as error:  # SkyPilot's exception for a cloud's refusal
        raise ClusterUnreachable(
            f"cluster {cluster_name} was not {what}: {_one_line(error)}",
            "Look at it in the cloud's own console; it may still cost money",
        ) from error


def cancelled_launch() -> LaunchCancelled:
    """Build the error of a launch that a user cancelled."""
    return LaunchCancelled(
        "SkyPilot's launch of the job was cancelled, for example by taking its cluster down",
        "Submit the job again if you still need it",
    )


def _one_line(error: BaseException) -> str:
    """All of an error's text, without colours, in one line."""
    return " ".join(without_colours(str(error)).split()) or type(error).__name__


def cannot_be_asked() -> tuple[type[Exception], ...]:
    """The exceptions of a server that did not answer."""
    import requests
    from sky import exceptions

    return (
        exceptions.ApiServerConnectionError,
        exceptions.ApiServerAuthenticationError,
        exceptions.APIVersionMismatchError,
        exceptions.ServerTemporarilyUnavailableError,
        exceptions.RequestInterruptedError,
        exceptions.ClusterStatusFetchingError,
        requests.exceptions.RequestException,
    )
