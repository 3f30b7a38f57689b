"""Time without pauses: a training whose job is frozen is neither silent nor slow."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from flows.core.training.series import Floats, Series
from flows.core.training.usage_names import PAUSE_EVENT, RESUME_EVENT


class _Pause(NamedTuple):
    begin: float
    end: float


class RunningTime:
    """Moves times towards now, so that the pauses in between are left out.

    Args:
        events: Those of the segments with what the job used of its machine, in order.
        now: The instant of the look: Unix time in seconds.
    """

    def __init__(self, events: Iterable[Mapping[str, Any]], *, now: float) -> None:
        self._pauses = list(_find_pauses(events, now))

    def move(self, times: Floats) -> Floats:
        """Each time, later by the pauses between it and now."""
        moved = times.astype(np.float64)
        for pause in self._pauses:
            moved = moved + np.clip(pause.end - np.maximum(times, pause.begin), 0.0, None)
        return moved

    def move_series(self, series: Series) -> Series:
        """A series at its moved times."""
        return series._replace(times=self.move(series.times)) if self._pauses else series

    def move_event(self, event: Mapping[str, Any]) -> Mapping[str, Any]:
        """An event at its moved time."""
        at = event.get("at")
        if not self._pauses or not isinstance(at, int | float):
            return event
        return {**event, "at": float(self.move(np.array([float(at)]))[0])}


def _find_pauses(events: Iterable[Mapping[str, Any]], now: float) -> Iterator[_Pause]:
    since: float | None = None
    for event in events:
        at = event.get("at")
        if not isinstance(at, int | float):
            continue
        if event.get("kind") == PAUSE_EVENT and since is None:
            since = float(at)
        if event.get("kind") == RESUME_EVENT and since is not None:
            yield _Pause(since, float(at))
            since = None
    if since is not None:
        yield _Pause(since, now)
