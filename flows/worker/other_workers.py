"""Which other workers of a pool are gone, by their heartbeats in Prefect."""

import time
from collections.abc import Callable, Collection, Mapping
from datetime import datetime, timedelta
from typing import NamedTuple

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import WorkerStatus


class Gone(NamedTuple):
    """Workers that are gone.

    Attributes:
        names: All of them.
        forgotten: Those that a person has taken out of the pool, or that were silent for too long:
            their machines do not come back.
    """

    names: set[str]
    forgotten: set[str]


class OtherWorkers:
    """Observes the workers of one pool.

    Prefect calls a worker offline after three missed heartbeats. After an outage of the server all
    are offline until their next heartbeat, so a worker counts as gone only when it has been offline
    for a while and this one has been online.

    Args:
        client: Prefect's API.
        pool: The pool.
        name: The name of this worker.
        silent_seconds: How long a worker must be offline. Longer than the time between two
            heartbeats.
        lost_seconds: How long after its last heartbeat a machine counts as lost.
        monotonic: The clock, in seconds.
    """

    def __init__(
        self,
        client: PrefectClient,
        pool: str,
        name: str,
        *,
        silent_seconds: float,
        lost_seconds: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._pool = pool
        self._name = name
        self._silent_seconds = silent_seconds
        self._lost = timedelta(seconds=lost_seconds)
        self._monotonic = monotonic
        self._silent_since: dict[str, float] = {}

    async def find_gone(self, names: Collection[str]) -> "Gone":
        """Find those that are gone among the workers with these names."""
        found = await self._client.read_workers_for_work_pool(self._pool)
        online = {worker.name for worker in found if worker.status == WorkerStatus.ONLINE}
        now = self._monotonic()
        silent = set(names) - online - {self._name} if self._name in online else set[str]()
        self._silent_since = {name: self._silent_since.get(name, now) for name in silent}
        longest = now - self._silent_seconds
        gone = {name for name, since in self._silent_since.items() if since <= longest}
        beats = {worker.name: worker.last_heartbeat_time for worker in found}
        return Gone(gone, {name for name in gone if self._is_lost(beats, name)})

    def _is_lost(self, beats: Mapping[str, datetime | None], name: str) -> bool:
        """Whether a worker is out of the pool, or its last heartbeat is long before our own."""
        if name not in beats:
            return True
        theirs, ours = beats[name], beats[self._name]
        return theirs is not None and ours is not None and ours - theirs >= self._lost
