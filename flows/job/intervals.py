"""How long a worker waits between two tries or looks."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Intervals:
    """The waits of a worker and of its runs, in seconds.

    Attributes:
        sweep: Between two looks for orphaned runs and for deleted ones.
        unowned: Age at which a pending run without an owner counts as orphaned: its worker died
            too early.
        claim: Longer than a worker takes to read that a run is orphaned and to write itself on it.
        retry: Before the first retry of a job; it doubles with each.
        silent: How long a worker of another machine must be offline before what it executed is
            taken up. Longer than `PREFECT_WORKER_HEARTBEAT_SECONDS` of our workers.
        vanished: How long a job must be missing on its cluster before it counts as lost.
        cancel_again: How long a cancelled job may live before it is cancelled again. A cancel may
            have no effect without an error: SkyPilot cancels no job that it is still submitting
            (skypilot 0.12).
        tidy: Between two looks for answers that are no longer kept.
        answers_kept: How long the run of an answered question is kept.
        log_longest: Longest between two looks at a log that does not grow.
        log_rest: How long the rest of the log of a job that has ended may take.
        usage: Between the first two questions to a cluster's accounting about one job.
        usage_longest: Longest between two of them; they grow with the job's age.
        log_settle: How long the lines that a node wrote may take to become visible here.
    """

    sweep: float = 5.0
    unowned: float = 15.0
    claim: float = 1.0
    retry: float = 10.0
    silent: float = 12.0
    vanished: float = 5.0
    cancel_again: float = 10.0
    tidy: float = 900.0
    answers_kept: float = 86_400.0
    log_longest: float = 30.0
    log_rest: float = 15.0
    log_settle: float = 0.5
    usage: float = 30.0
    usage_longest: float = 300.0


USUAL: Final = Intervals()
