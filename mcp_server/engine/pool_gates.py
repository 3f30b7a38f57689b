"""What a person paused or limited in Prefect, as the doctor reports it."""

from collections.abc import Iterator
from typing import Final

from pydantic import TypeAdapter

from flows.core.pool_state import Gate, why_pool_waits, why_queue_waits
from mcp_server.engine.rest import Rest
from mcp_server.engine.values import EngineFinding, EngineSeverity

_GATE: Final = TypeAdapter(Gate)
_GATES: Final = TypeAdapter(list[Gate])


def gate_findings(api: Rest, pool_name: str) -> Iterator[EngineFinding]:
    """Report a pool that is paused, or that may run nothing, and its queues likewise."""
    pool = api.get(f"/work_pools/{pool_name}", _GATE)
    if pool is None:
        return
    queues = api.post(f"/work_pools/{pool_name}/queues/filter", {}, _GATES) or []
    reasons = [why_pool_waits(pool), *(why_queue_waits(queue, pool) for queue in queues)]
    for why in filter(None, reasons):
        what, _, fix = why.partition("; ")
        yield EngineFinding(
            severity=EngineSeverity.WARNING,
            subject="Work pool",
            what=f"Jobs wait, as {what}",
            fix=fix[:1].upper() + fix[1:],
        )
