"""What a diagnosis is made from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from flows.core.states import JobState, TerminationReason
from flows.core.training.series import Series

TRAINING_PHASES: Final = frozenset({"", "training"})
"""Phases in which steps are expected; in every other one a training may be silent."""


class Ending(NamedTuple):
    """How a job ended.

    Attributes:
        reason: Why it ended.
        exit_code: Exit code of its process, from 0; None: not known.
        signal: Number of the signal that ended it; None: none, or not known.
    """

    reason: TerminationReason
    exit_code: int | None = None
    signal: int | None = None

    @property
    def is_failure(self) -> bool:
        """Whether the job ended without having done its work, and was not cancelled."""
        return self.reason.job_state in {JobState.FAILED, JobState.CRASHED}


class ConfigFacts(NamedTuple):
    """What the config of the training says; None: not known.

    Attributes:
        effective_batch: Samples per step, over all devices.
        per_device_batch: `training.per_device_train_batch_size`.
        accumulation: `training.gradient_accumulation_steps`.
        learning_rate: The peak learning rate.
        max_steps: Steps of the whole training.
        model_name: The model it starts from.
        model_max_length: Longest sequence, in tokens.
        gradient_checkpointing: `training.enable_gradient_checkpointing`.
    """

    effective_batch: int | None = None
    per_device_batch: int | None = None
    accumulation: int | None = None
    learning_rate: float | None = None
    max_steps: int | None = None
    model_name: str | None = None
    model_max_length: int | None = None
    gradient_checkpointing: bool | None = None


_UNKNOWN: Final = ConfigFacts()


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Everything known of a training. All parts but `now` may be missing.

    Attributes:
        now: The instant of this look, or the end of a job that has ended: Unix time in seconds.
        is_running: Whether the training runs.
        series: Values by the name of their metric; a few thousand rows each suffice.
        events: The events of the training record, in order.
        log: The last lines of the log, without secrets.
        ended: How the job ended; None: it has not.
        usage: Resources by time: `ram_bytes`, `cpu_seconds`, `gpu0_utilization_percent` (percent),
            `gpu0_memory_bytes`; the steps of these series mean nothing.
        config: What the config says.
        phase: What the training does now, such as ``evaluation``; empty: not known.
        output_dir: Where it writes its results.
    """

    now: float
    is_running: bool = False
    series: Mapping[str, Series] = field(default_factory=dict[str, Series])
    events: Sequence[Mapping[str, Any]] = ()
    log: Sequence[str] = ()
    ended: Ending | None = None
    usage: Mapping[str, Series] = field(default_factory=dict[str, Series])
    config: ConfigFacts = _UNKNOWN
    phase: str = ""
    output_dir: str = ""
