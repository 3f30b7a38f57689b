"""What keeps a due run of a work pool waiting: a person paused something, or a limit is reached."""

from typing import Final

from pydantic import BaseModel, ConfigDict

ACTIVE_TYPES: Final = ("PENDING", "RUNNING", "PAUSED", "CANCELLING")
"""The Prefect state types of runs that count for a limit (prefect 3.9)."""


class Gate(BaseModel):
    """A work pool, or a queue of it, as Prefect's API answers."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str
    is_paused: bool = False
    concurrency_limit: int | None = None


def why_pool_waits(pool: Gate, *, active: int = 0) -> str | None:
    """Why a pool starts no run, and what to do; None: it does.

    Args:
        pool: The pool.
        active: How many of its runs count for its limit.
    """
    command = f"prefect work-pool resume {pool.name}"
    return _why(pool, f"the work pool {pool.name}", active=active, command=command)


def why_queue_waits(queue: Gate, pool: Gate, *, active: int = 0) -> str | None:
    """Why a queue of a pool starts no run, and what to do; None: it does."""
    command = f"prefect work-queue resume {queue.name} --pool {pool.name}"
    what = f"the queue {queue.name} of the work pool {pool.name}"
    return _why(queue, what, active=active, command=command)


def _why(gate: Gate, what: str, *, active: int, command: str) -> str | None:
    if gate.is_paused:
        return f"{what} is paused; resume it in the Prefect UI or with `{command}`"
    limit = gate.concurrency_limit
    if limit is not None and active >= limit:
        return f"{what} has reached its limit of {limit}; it starts when another run has ended"
    return None
