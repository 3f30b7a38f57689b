"""Compares two jobs: their requests, their code and packages, their results."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, cast

from pydantic import Field

from flows.core import provenance
from flows.core.configs.reader import ConfigFile, load_snapshot
from flows.core.errors import OumiFlowsError
from flows.core.models import JobRequest, JobStatus, Value
from flows.core.result_metrics import ResultFiles, read_kept, read_metrics
from mcp_server.prefect_api.models import FlowRun
from mcp_server.services.jobs.effective_config import OverrideEffect, read_effects, replicate_key
from mcp_server.services.jobs.redactors import Redactors
from mcp_server.services.jobs.replicates import MetricVerdict, Noise, describe_noise, judge
from mcp_server.services.jobs.status import job_request

_SHOWN: Final = 60
_VALUE_LIMIT: Final = 200
_CONFIGS: Final = 64
_NAMED: Final = 5
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
    are_replicates: bool = Field(
        default=False, description="Both have one config, but for seeds and folders."
    )
    replicates_a: list[str] = Field(
        default_factory=list[str], description="Jobs with the config of a, itself included."
    )
    replicates_b: list[str] = Field(default_factory=list[str])
    metrics: list[MetricVerdict] = Field(
        default_factory=list[MetricVerdict],
        description="Whether the difference is more than the noise of the replicates.",
    )
    overrides: list[OverrideEffect] = Field(
        default_factory=list[OverrideEffect], description="What each override did."
    )


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
        self._configs: dict[str, ConfigFile] = {}

    def compare(self, a: Side, b: Side, others: Sequence[FlowRun] = ()) -> Comparison:
        """Compare two jobs. Blocking: it reads files.

        Args:
            a: One job.
            b: The other.
            others: Jobs among which replicates of both are looked for.
        """
        hide = self._redactors.of_requests([a.request, b.request]).config
        inputs = list(_differences(_flat(hide(self._inputs(a))), _flat(hide(self._inputs(b)))))
        results = list(_differences(_flat(hide(_results(a))), _flat(hide(_results(b)))))
        said = f"{_count(inputs, 'input')} and {_count(results, 'result')} of {a.status.name} and "
        said += f"{b.status.name} differ"
        for what, found in (("inputs", inputs), ("results", results)):
            if len(found) > _SHOWN:
                said += f"; {len(found) - _SHOWN} more {what} were cut"
        noise = self._judge(a, b, others)
        effects = [one for side in (a, b) for one in self._effects(side)]
        return Comparison(
            summary=" ".join([f"{said}.", *describe_noise(noise), *_describe_effects(effects)]),
            a=a.run.id,
            b=b.run.id,
            inputs=inputs[:_SHOWN],
            results=results[:_SHOWN],
            are_replicates=noise.are_replicates,
            replicates_a=noise.a[:_SHOWN],
            replicates_b=noise.b[:_SHOWN],
            metrics=noise.metrics,
            overrides=effects[:_SHOWN],
        )

    def _judge(self, a: Side, b: Side, others: Sequence[FlowRun]) -> Noise:
        """Compare the metrics of two jobs and of their replicates."""
        if a.run.id == b.run.id or a.request is None or b.request is None:
            return Noise()
        keys = [self._key(a.request), self._key(b.request)]
        groups = [{a.run.id: _metrics(a.run)}, {b.run.id: _metrics(b.run)}]
        for run in others:
            request = job_request(run)
            key = self._key(request) if request and run.id not in (a.run.id, b.run.id) else None
            for wanted, group in zip(keys, groups, strict=True):
                if key is not None and key == wanted:
                    group[run.id] = _metrics(run)
        if keys[0] is not None and keys[0] == keys[1]:
            together = list(groups[0] | groups[1])
            return Noise(are_replicates=True, a=together, b=together)
        one, other = groups
        verdicts = judge(list(one.values()), list(other.values()))
        return Noise(a=list(one), b=list(other), metrics=verdicts)

    def _snapshot(self, sha256: str) -> ConfigFile:
        """Read a config as submitted; one that several jobs have is read once."""
        if sha256 not in self._configs:
            if len(self._configs) >= _CONFIGS:
                self._configs.clear()
            self._configs[sha256] = load_snapshot(sha256, self._snapshots_dir)
        return self._configs[sha256]

    def _key(self, request: JobRequest) -> str | None:
        """What replicates have in common; None: the config is not on this machine."""
        try:
            return replicate_key(request, self._snapshot(request.config_sha256 or ""))
        except OumiFlowsError:
            return None

    def _effects(self, side: Side) -> list[OverrideEffect]:
        request = side.request
        if request is None or not request.overrides:
            return []
        try:
            config = self._snapshot(request.config_sha256 or "")
        except OumiFlowsError:
            return []
        hide = self._redactors.of_requests([request]).text
        return [
            one.model_copy(
                update={
                    "value": hide(_as_text(one.value)),
                    "trained_with": one.trained_with and hide(_as_text(one.trained_with)),
                }
            )
            for one in read_effects(side.run, request, config)
        ]

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
    found = sorted(_metrics(side.run).items())
    used = {"cost": status.cost, "ram_peak_bytes": status.usage and status.usage.ram_peak_bytes}
    return facts | used | {f"metrics.{name}": f"{value:g}" for name, value in found}


def _describe_effects(effects: Sequence[OverrideEffect]) -> list[str]:
    """Name the overrides that changed nothing, in sentences."""
    said: list[str] = []
    for effect in ("changed nothing", "not applied"):
        keys = list(dict.fromkeys(one.key for one in effects if one.effect == effect))
        if keys:
            said.append(f"Overrides {effect}: {', '.join(keys[:_NAMED])}.")
    return said


def _metrics(run: FlowRun) -> Mapping[str, float]:
    """Read the record of the job; if there is none, its own log."""
    kept = read_kept(run.labels.metrics)
    if kept is not None:
        return kept
    log_path = run.labels.log_path
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
