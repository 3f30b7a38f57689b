"""What a diagnosis says."""

from enum import StrEnum

from pydantic import AliasChoices, ConfigDict, Field

from flows.core.findings import Severity
from flows.core.models import Answer, Value
from flows.core.states import Health


class FindingKind(StrEnum):
    """What kind of thing is wrong with a training; docs/diagnosis.md explains each."""

    NOT_FINITE = "not_finite"
    DIVERGING = "diverging"
    NO_PROGRESS = "no_progress"
    COLLAPSED = "collapsed"
    OVERFITTING = "overfitting"
    SPIKY = "spiky"
    SLOW = "slow"
    STALLED = "stalled"
    GPU_IDLE = "gpu_idle"
    OUT_OF_MEMORY = "out_of_memory"
    DISK_FULL = "disk_full"
    NETWORK = "network"
    HUB_ACCESS = "hub_access"
    DATA_ERROR = "data_error"
    DEPENDENCY = "dependency"
    CRASH = "crash"
    KILLED = "killed"


class Finding(Value):
    """One thing that is wrong."""

    model_config = ConfigDict(frozen=True, extra="forbid", serialize_by_alias=True)

    kind: FindingKind
    severity: Severity
    evidence: str = Field(description="Steps, numbers, or the line of the log that show it.")
    try_: list[str] = Field(
        validation_alias=AliasChoices("try", "try_"),
        serialization_alias="try",
        description="What to try, the smallest change first.",
    )


class Diagnosis(Answer):
    """How a training does, and everything that is wrong with it, the worst first."""

    health: Health
    findings: list[Finding]
