"""The filter of jobs, for lists and for cancelling many."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple, cast

from pydantic import TypeAdapter, ValidationError

from flows.core import names
from flows.core.configs.clouds import is_local
from flows.core.errors import InvalidArgument
from flows.core.prefect_states import PREFECT_STATE
from flows.core.states import JobState
from mcp_server.prefect_api.models import FlowRun
from mcp_server.services.jobs.finding import ENDED, LIVE
from mcp_server.services.jobs.status import job_request

_LENGTH: Final = re.compile(r"(\d{1,6})\s*([smhdw])")
_UNITS: Final = {
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
}
_STATES_OF: Final = {"all": frozenset(JobState), "running": LIVE, "completed": ENDED}


class ClusterAddress(NamedTuple):
    """The cluster that a job runs on or will run on."""

    cloud: str
    cluster_name: str


@dataclass(frozen=True, kw_only=True)
class JobFilter:
    """A filter of jobs. Unset fields do not restrict.

    Attributes:
        status: `all`, `running` (every job that has not ended), `completed` (every one that has),
            or a job state other than running.
        cloud: Only jobs on this cloud.
        name: Only jobs whose name contains this; case does not matter.
        cluster_name: Only jobs on this cluster.
        tag: Only jobs with this tag.
        model: Only jobs whose model's name contains this; case does not matter.
        since: Only jobs since this time, or for this long: "2h".
        after: The time that `since` means.
    """

    status: str = "all"
    cloud: str = ""
    name: str = ""
    cluster_name: str = ""
    tag: str = ""
    model: str = ""
    since: str = ""
    after: datetime | None = None

    @classmethod
    def read(cls, *, now: datetime | None = None, **given: str) -> "JobFilter":
        """Make a filter from the arguments of a tool or a command.

        Args:
            now: This moment; None: now.
            given: The other fields.

        Raises:
            InvalidArgument: `since` is no time, or there is no such status.
        """
        _check_status(given.get("status") or "all")
        after = read_since(given.get("since") or "", now or datetime.now(UTC))
        return cls(**given, after=after)

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags of matching jobs, for Prefect's filter; pipelines have no tag of a cloud."""
        return tuple(filter(None, (self.cloud and names.cloud_tag(self.cloud), self.tag)))

    @property
    def states(self) -> frozenset[JobState]:
        """The states of matching jobs."""
        return _STATES_OF.get(self.status) or frozenset({JobState(self.status)})

    @property
    def kind(self) -> str:
        """The status as a word before "jobs"; empty: all."""
        return "" if self.status == "all" else f" {self.status}"

    @classmethod
    def of_json(cls, text: str) -> "JobFilter":
        """Read what `as_json` wrote.

        Raises:
            InvalidArgument: It did not.
        """
        try:
            return _FILTER.validate_json(text)
        except ValidationError as error:
            raise InvalidArgument(
                "cursor has a filter that cannot be read", "Leave it out to start again"
            ) from error

    def as_json(self) -> str:
        """Write the filter as JSON."""
        return _FILTER.dump_json(self, exclude_defaults=True).decode()

    @property
    def words(self) -> str:
        """The filter as words after "jobs": ` on gcp named 'x'`; empty: all."""
        state = f" in state {self.status}" if self.status not in _STATES_OF else ""
        return state + self.words_but_status

    @property
    def words_but_status(self) -> str:
        """The same without the status."""
        where = "/".join(filter(None, (self.cloud, self.cluster_name)))
        parts = (
            f"on {where}" if where else "",
            f"named {self.name!r}" if self.name else "",
            f"with tag {self.tag!r}" if self.tag else "",
            f"of model {self.model!r}" if self.model else "",
            f"since {self.after:%Y-%m-%d %H:%M} UTC" if self.after else "",
        )
        return "".join(f" {part}" for part in parts if part)

    def has_name_of(self, run: FlowRun) -> bool:
        """Whether a run has the name; Prefect's own filter reads `_` and `%` as wildcards."""
        return self.name.lower() in run.name.lower()

    def has_model_of(self, run: FlowRun) -> bool:
        """Whether a run has the model; Prefect has no filter of it."""
        return self.model.lower() in (run.labels.model_name or "").lower()

    def takes(self, run: FlowRun) -> bool:
        """Whether a job matches. A pipeline or a sweep is where all its jobs are."""
        addresses = addresses_of(run)
        return (
            run.state.job_state in self.states
            and self.has_name_of(run)
            and self.has_model_of(run)
            and self.tag in ("", *run.tags)
            and (self.after is None or run.expected_start_time >= self.after)
            and all(self.cloud in ("", one.cloud) for one in addresses)
            and all(self.cluster_name in ("", one.cluster_name) for one in addresses)
            and bool(addresses or not (self.cloud or self.cluster_name))
        )


EVERY_JOB: Final = JobFilter()
_FILTER: Final = TypeAdapter(JobFilter)


def addresses_of(run: FlowRun) -> set[ClusterAddress]:
    """Read where a job runs, or every job of a pipeline or a sweep."""
    if own := job_request(run):
        return {_address(own.cloud, run.labels.cluster_name or own.cluster_name)}
    asked = _requests(run)
    return {_address(one.get("cloud") or "", one.get("cluster_name") or "") for one in asked}


def is_to_come(run: FlowRun) -> bool:
    """Whether a run is one that a schedule has planned and that is not due yet."""
    scheduled = PREFECT_STATE[JobState.SCHEDULED]
    return run.auto_scheduled and (run.state.type, run.state.name) == scheduled


def _check_status(status: str) -> None:
    known = [*_STATES_OF, *(state for state in JobState if state not in _STATES_OF)]
    if status not in known:
        raise InvalidArgument(f"there is no status {status!r}", f"Use one of {', '.join(known)}")


def read_since(text: str, now: datetime, *, name: str = "since") -> datetime | None:
    """Read a time or a length of time; None: `text` is empty.

    Raises:
        InvalidArgument: It is neither.
    """
    text = text.strip()
    if not text:
        return None
    try:
        if length := _LENGTH.fullmatch(text):
            return now - int(length[1]) * _UNITS[length[2]]
        at = datetime.fromisoformat(text)
    except (ValueError, OverflowError) as error:
        raise InvalidArgument(
            f"{name} {text[:40]!r} is no time",
            "Give an ISO time such as 2026-11-30T12:00:00Z, or how long ago: 30m, 2h, 3d, 1w",
        ) from error
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


def _address(cloud: str, cluster_name: str) -> ClusterAddress:
    cloud = cloud or names.LOCAL_CLOUD
    default = names.LOCAL_CLUSTER if is_local(cloud) else ""
    return ClusterAddress(cloud, cluster_name or default)


def _requests(run: FlowRun) -> list[dict[str, Any]]:
    """Read the requests of the jobs of a pipeline or a sweep."""
    pipeline, sweep = run.parameters.get("pipeline"), run.parameters.get("sweep")
    parts: list[Any] = [sweep] if isinstance(sweep, dict) else []
    if isinstance(pipeline, dict):
        parts += cast("dict[str, Any]", pipeline).get("parts") or []
    return [part["request"] for part in parts if isinstance(part.get("request"), dict)]
