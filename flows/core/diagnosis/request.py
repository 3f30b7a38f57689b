"""The question how a job does."""

from pydantic import Field

from flows.core.models import Value
from flows.core.states import TerminationReason


class DiagnosisRequest(Value):
    """A job to diagnose.

    Attributes:
        log_paths: The logs of its attempts, the first attempt first; their records are beside them.
        is_running: Whether it runs.
        now: Unix time in seconds of this look, or of the end of a job that has ended.
        reason: Why it ended; None: it has not.
        output_dir: Where it writes its results; empty: not known.
        config_sha256: Names the copy of its config, whose secrets are hidden; empty: it has none.
    """

    log_paths: list[str] = Field(default_factory=list[str])
    is_running: bool = False
    now: float
    reason: TerminationReason | None = None
    output_dir: str = ""
    config_sha256: str = ""
