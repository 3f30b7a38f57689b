"""The errors of the project. A message says what happened, to what, and what to do next.

OumiFlowsError
├── InvalidArgument        INVALID_ARGUMENT
├── InvalidConfig          INVALID_CONFIG
├── ConfigNotFound         CONFIG_NOT_FOUND
├── JobNotFound            JOB_NOT_FOUND
├── JobAlreadyDone         JOB_ALREADY_DONE
├── AmbiguousId            AMBIGUOUS_ID
├── PreflightBlocked       PREFLIGHT_BLOCKED
├── ConfirmationRequired   CONFIRMATION_REQUIRED
├── CloudUnavailable       CLOUD_UNAVAILABLE
├── ClusterNotFound        CLUSTER_NOT_FOUND
├── ClusterUnreachable     CLUSTER_UNREACHABLE
│   ├── NothingSubmitted   CLUSTER_UNREACHABLE
│   └── StillLaunching     CLUSTER_UNREACHABLE
├── LaunchFailed           LAUNCH_FAILED
│   └── LaunchCancelled    LAUNCH_FAILED
├── EngineUnavailable      ENGINE_UNAVAILABLE
├── OperationTimeout       TIMEOUT
├── ReadOnly               READ_ONLY
├── Conflict               CONFLICT
└── InternalError          INTERNAL
"""

from enum import StrEnum
from typing import ClassVar, Final


class ErrorCode(StrEnum):
    """The codes a failed call can answer with."""

    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    INVALID_CONFIG = "INVALID_CONFIG"
    CONFIG_NOT_FOUND = "CONFIG_NOT_FOUND"
    JOB_NOT_FOUND = "JOB_NOT_FOUND"
    JOB_ALREADY_DONE = "JOB_ALREADY_DONE"
    AMBIGUOUS_ID = "AMBIGUOUS_ID"
    PREFLIGHT_BLOCKED = "PREFLIGHT_BLOCKED"
    CONFIRMATION_REQUIRED = "CONFIRMATION_REQUIRED"
    CLOUD_UNAVAILABLE = "CLOUD_UNAVAILABLE"
    CLUSTER_NOT_FOUND = "CLUSTER_NOT_FOUND"
    CLUSTER_UNREACHABLE = "CLUSTER_UNREACHABLE"
    LAUNCH_FAILED = "LAUNCH_FAILED"
    ENGINE_UNAVAILABLE = "ENGINE_UNAVAILABLE"
    TIMEOUT = "TIMEOUT"
    READ_ONLY = "READ_ONLY"
    CONFLICT = "CONFLICT"
    INTERNAL = "INTERNAL"


class OumiFlowsError(Exception):
    """A failure a caller can act on.

    Args:
        what: What happened, and to what; no trailing full stop needed.
        next_step: What to do next.
    """

    code: ClassVar[ErrorCode] = ErrorCode.INTERNAL

    def __init__(self, what: str, next_step: str) -> None:
        super().__init__(what, next_step)
        self.what = what
        self.next_step = next_step

    @property
    def sentences(self) -> str:
        """What happened, to what, and what to do next, on one line."""
        return " ".join(f"{sentence(self.what)} {sentence(self.next_step)}".split())

    def __str__(self) -> str:
        """The line ``CODE: what happened, to what. What to do next.`` of logs and tools."""
        return f"{self.code}: {self.sentences}"


def sentence(text: str) -> str:
    """`text` with one full stop at its end; empty if it is."""
    text = text.rstrip(". ")
    return text if not text or text.endswith(("?", "!")) else f"{text}."


class InvalidArgument(OumiFlowsError):
    """An argument is missing, of the wrong type or out of bounds."""

    code = ErrorCode.INVALID_ARGUMENT


class InvalidConfig(OumiFlowsError):
    """A config file was read but cannot be run."""

    code = ErrorCode.INVALID_CONFIG


class ConfigNotFound(OumiFlowsError):
    """A config file does not exist or cannot be read."""

    code = ErrorCode.CONFIG_NOT_FOUND


class JobNotFound(OumiFlowsError):
    """No job has this id, prefix or name."""

    code = ErrorCode.JOB_NOT_FOUND


class JobAlreadyDone(OumiFlowsError):
    """The job has ended; the call needs one that has not."""

    code = ErrorCode.JOB_ALREADY_DONE


class AmbiguousId(OumiFlowsError):
    """Several jobs have this prefix or name."""

    code = ErrorCode.AMBIGUOUS_ID


class PreflightBlocked(OumiFlowsError):
    """A pre-flight check found something that would make the job fail."""

    code = ErrorCode.PREFLIGHT_BLOCKED


class ConfirmationRequired(OumiFlowsError):
    """The call destroys something and was not confirmed."""

    code = ErrorCode.CONFIRMATION_REQUIRED


class CloudUnavailable(OumiFlowsError):
    """The cloud is unknown, not installed or not set up."""

    code = ErrorCode.CLOUD_UNAVAILABLE


class ClusterNotFound(OumiFlowsError):
    """No cluster has this name on this cloud."""

    code = ErrorCode.CLUSTER_NOT_FOUND


class ClusterUnreachable(OumiFlowsError):
    """The cluster did not answer; nothing is known about its jobs."""

    code = ErrorCode.CLUSTER_UNREACHABLE


class NothingSubmitted(ClusterUnreachable):
    """The cluster did not answer before the launch submitted anything, so it runs no job."""


class StillLaunching(ClusterUnreachable):
    """A launch of the job is still in progress; the next launch continues it."""


class LaunchFailed(OumiFlowsError):
    """The launcher refused or failed to start the job."""

    code = ErrorCode.LAUNCH_FAILED


class LaunchCancelled(LaunchFailed):
    """The launch was ended from outside oumi-flows."""


class EngineUnavailable(OumiFlowsError):
    """The Prefect server or its worker is not running or did not answer."""

    code = ErrorCode.ENGINE_UNAVAILABLE


class OperationTimeout(OumiFlowsError):
    """Something did not answer within its time limit."""

    code = ErrorCode.TIMEOUT


class ReadOnly(OumiFlowsError):
    """The server was started read-only and the call would change something."""

    code = ErrorCode.READ_ONLY


class Conflict(OumiFlowsError):
    """Two things that must agree do not."""

    code = ErrorCode.CONFLICT


class InternalError(OumiFlowsError):
    """A defect in oumi-flows."""

    code = ErrorCode.INTERNAL


ERRORS: Final[dict[str, type[OumiFlowsError]]] = {
    error.code.value: error for error in OumiFlowsError.__subclasses__()
}
"""Every error by its code."""
