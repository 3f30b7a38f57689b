"""Reads the evidence of a diagnosis from the files of a job. Blocking."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, cast

from flows.core.diagnosis.evidence import ConfigFacts, Ending, Evidence
from flows.core.diagnosis.findings import Diagnosis
from flows.core.diagnosis.request import DiagnosisRequest
from flows.core.diagnosis.rules import diagnose
from flows.core.diagnosis.running_time import RunningTime
from flows.core.logs.pages import read_tail
from flows.core.redaction import Redactor
from flows.core.regular_files import read_regular_file
from flows.core.states import TerminationReason
from flows.core.training.record import Segment, TrainingRecord
from flows.core.training.recorder import record_folder
from flows.core.training.series import Series, thin
from flows.core.training.usage_names import USAGE_SEGMENT

_ROWS: Final = 4000
_LINES: Final = 2000
_LOG_BYTES: Final = 2**20
_EXIT: Final = "exit.json"
"""How a local job ended, as `flows.launcher.local.job_folder` records it."""
_EXIT_BYTES: Final = 2**14
_OF_TRANSFORMERS: Final = {
    "effective_batch": "effective_batch_size",
    "per_device_batch": "per_device_train_batch_size",
    "accumulation": "gradient_accumulation_steps",
    "learning_rate": "learning_rate",
    "max_steps": "max_steps",
    "model_max_length": "max_length",
    "gradient_checkpointing": "gradient_checkpointing",
}
"""Facts on the config, and how `flows.launcher.record_hook` names them in the record."""


def diagnose_job(request: DiagnosisRequest, hide: Redactor) -> Diagnosis:
    """Read what is known of a job, and diagnose it."""
    return diagnose(read_evidence(request, hide))


def read_evidence(request: DiagnosisRequest, hide: Redactor) -> Evidence:
    """Read the records and the last log of a job.

    Args:
        request: The job.
        hide: Hides its secrets in the lines of its log.
    """
    logs = [Path(path) for path in request.log_paths]
    records = [record_folder(path) for path in logs]
    record = TrainingRecord(records)
    # Of earlier attempts only the curves matter; what happened in the last one is news.
    events = TrainingRecord(records[-1:]).events()
    use = [Segment(folder / USAGE_SEGMENT) for folder in records]
    time = RunningTime((event for one in use for event in one.events()), now=request.now)
    return Evidence(
        now=request.now,
        is_running=request.is_running,
        series={name: time.move_series(thin(record.read(name), _ROWS)) for name in record.names()},
        events=[time.move_event(event) for event in events],
        log=_read_log(logs[-1], hide) if logs else [],
        ended=_ending(request.reason, logs),
        usage={name: time.move_series(one) for name, one in _read_usage(use[-1:])},
        config=_facts(events),
        output_dir=request.output_dir,
    )


def _ending(reason: TerminationReason | None, logs: Sequence[Path]) -> Ending | None:
    """How the job ended; a local job has its exit code in a file beside its log."""
    if reason is None:
        return None
    facts: Any = None
    with suppress(OSError, ValueError, RecursionError, IndexError):
        text = read_regular_file(logs[-1].with_name(_EXIT), limit=_EXIT_BYTES)
        facts = json.loads(text)
    if not isinstance(facts, dict):
        return Ending(reason)
    known = cast("Mapping[str, Any]", facts)
    return Ending(reason, _whole(known.get("exit_code")), _whole(known.get("signal")))


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) else None


def _read_log(path: Path, hide: Redactor) -> Sequence[str]:
    try:
        page = read_tail(path, lines=_LINES, max_bytes=_LOG_BYTES, final=True, redactor=hide)
    except OSError:
        return []
    return page.lines


def _read_usage(segments: Sequence[Segment]) -> Iterator[tuple[str, Series]]:
    for segment in segments:
        for name in segment.names():
            yield name, thin(segment.read(name), _ROWS)


def _facts(events: Sequence[Mapping[str, Any]]) -> ConfigFacts:
    """What the trainer said of its config when it began."""
    begins = [event for event in events if event.get("kind") == "begin"]
    config: Any = begins[-1].get("config") if begins else None
    if not isinstance(config, dict):
        return ConfigFacts()
    said = cast("Mapping[str, Any]", config)
    known: dict[str, Any] = {fact: said.get(name) for fact, name in _OF_TRANSFORMERS.items()}
    numbers: dict[str, Any] = {k: one for k, one in known.items() if isinstance(one, int | float)}
    return ConfigFacts(**numbers)
