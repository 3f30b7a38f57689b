"""Compares two jobs: their requests, their code and packages, their results."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, cast

from pydantic import Field

from flows.core import provenance
from flows.core.configs.reader import load_snapshot
from flows.core.errors import OumiFlowsError
from flows.core.models import JobRequest, JobStatus, Value
from flows.core.result_metrics import ResultFiles, read_kept, read_metrics
from mcp_server.prefect_api.models import FlowRun
from mcp_server.services.jobs.redactors import Redactors

_SHOWN: Final = 60
_VALUE_LIMIT: Final = 200
_UNKNOWN: Final = "unknown here"


class Difference(Value):
    """One value that differs between two jobs."""

    what: str = Field(description="config.KEY, packages.NAME, code.commit, data.PATH, ...")
    a: str | None = Field(description="Null: not set.")
    b: str | None = Field(description="Null: not set.")


class Comparison(Value):
    """Two jobs beside each other."""

    summary: str = Field(description="One line a person can read; says what was cut.")
    a: str = Field(description="Id of the first job.")
    b: str = Field(description="Id of the second job.")
    inputs: list[Difference] = Field(description="Differences of request, config, code, data.")
    results: list[Difference] = Field(description="Differences of results.")


class Side(Value):
    """One of two jobs that are compared."""

    run: FlowRun
    request: JobRequest | None
    status: JobStatus


class Comparer:
    """Compares jobs by their records on this machine and in Prefect.

    Args:
        snapshots_dir: Where configs are kept as submitted.
        records_dir: Where records of code, packages and data of jobs are kept.
        redactors: Hide their secrets.
    """

    def __init__(self, snapshots_dir: Path, records_dir: Path, redactors: Redactors) -> None:
        self._snapshots_dir = snapshots_dir
        self._records_dir = records_dir
        self._redactors = redactors

    def compare(self, a: Side, b: Side) -> Comparison:
        """Compare two jobs."""
        hide = self._redactors.of_requests([a.request, b.request]).config
        inputs = list(_differences(_flat(hide(self._inputs(a))), _flat(hide(self._inputs(b)))))
        results = list(_differences(_flat(hide(_results(a))), _flat(hide(_results(b)))))
        said = f"{_count(inputs, 'input')} and {_count(results, 'result')} of {a.status.name} and "
        said += f"{b.status.name} differ"
        for what, found in (("inputs", inputs), ("results", results)):
            if len(found) > _SHOWN:
                said += f"; {len(found) - _SHOWN} more {what} were cut"
        return Comparison(
            summary=f"{said}.",
            a=a.run.id,
            b=b.run.id,
            inputs=inputs[:_SHOWN],
            results=results[:_SHOWN],
        )

    def _inputs(self, side: Side) -> dict[str, Any]:
        found: dict[str, Any] = {}
        if side.request is not None:
            asked = side.request.model_dump(
                mode="json", exclude={"config_sha256", "config_path", "client_cwd", "overrides"}
            )
            found["request"] = asked
            found["request.config_path"] = side.request.config_path
            found["request.client_cwd"] = side.request.client_cwd
            found |= self._config(side.request)
        return found | self._provenance(side.run)

    def _config(self, request: JobRequest) -> dict[str, Any]:
        try:
            data: Any = load_snapshot(request.config_sha256 or "", self._snapshots_dir).data
        except OumiFlowsError:
            data = f"sha256 {request.config_sha256}, {_UNKNOWN}"
        return {"config": data} | {
            f"config.{key}": value for key, value in request.overrides.items()
        }

    def _provenance(self, run: FlowRun) -> dict[str, Any]:
        sha256 = run.labels.provenance
        if sha256 is None:
            return {}
        record = provenance.load(sha256, self._records_dir)
        if record is None:
            return {"provenance": f"{sha256}, {_UNKNOWN}"}
        facts = record.model_dump(mode="json", exclude={"code": {"diff"}})
        return {"ran_on": facts}


def _results(side: Side) -> dict[str, Any]:
    status = side.status
    facts = status.model_dump(
        mode="json",
        include={
            "state",
            "termination_reason",
            "message",
            "attempt",
            "output_dir",
            "duration_seconds",
            "progress",
        },
    )
    metrics = {f"metrics.{name}": f"{value:g}" for name, value in sorted(_metrics(side).items())}
    return facts | metrics


def _metrics(side: Side) -> Mapping[str, float]:
    """Read the record of the job; if there is none, its own log."""
    kept = read_kept(side.run.labels.metrics)
    if kept is not None:
        return kept
    log_path = side.status.log_path
    return read_metrics(ResultFiles(None, Path(log_path))) if log_path else {}


def _flat(value: object, prefix: str = "") -> dict[str, str]:
    """Flatten to dotted keys with values as text; leave out unset ones."""
    if isinstance(value, dict):
        found: dict[str, str] = {}
        for key, entry in cast("Mapping[object, Any]", value).items():
            found |= _flat(entry, f"{prefix}.{key}" if prefix else str(key))
        return found
    if isinstance(value, list):
        found = {}
        for number, entry in enumerate(cast("list[Any]", value)):
            found |= _flat(entry, f"{prefix}[{number}]")
        return found
    return {} if value is None else {prefix: _as_text(value)}


def _as_text(value: object) -> str:
    text = str(value)
    return text if len(text) <= _VALUE_LIMIT else f"{text[:_VALUE_LIMIT]}... ({len(text)} long)"


def _differences(a: Mapping[str, str], b: Mapping[str, str]) -> Iterator[Difference]:
    for key in sorted(set(a) | set(b)):
        if a.get(key) != b.get(key):
            yield Difference(what=key, a=a.get(key), b=b.get(key))


def _count(differences: list[Difference], noun: str) -> str:
    return f"{len(differences)} {noun}{'s' * (len(differences) != 1)}"
