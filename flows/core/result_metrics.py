"""Read the metrics of a job: from its evaluation, its training, or its own output."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple, cast

from flows.core.numbers import flat_numbers, to_count, to_json
from flows.core.regular_files import open_regular_file, read_regular_file
from flows.core.result_marks import EVALUATION, TRAINING, ResultMarks
from flows.core.training.log_values import honest_numbers

_TASK: Final = "task_params.json"
_TAIL_BYTES: Final = 2**20
_RESULT_BYTES: Final = 2**24
_RESULTS_MAX: Final = 200
"""How many results of evaluations are read, the newest ones."""
_KEPT: Final = 200
_HARNESS = re.compile(r"^results\.|,none$")
_STEP_KEYS: Final = ("step", "global_step")
_STEP_LOSSES: Final = ("loss", "train/loss")


class Point(NamedTuple):
    """A metric's value at a step."""

    step: int
    value: float


class ResultFiles(NamedTuple):
    """Where the results of a job are.

    Attributes:
        output_dir: Its folder of results, if it has one.
        log_path: Its log.
        before: The content of the folder before the job.
    """

    output_dir: Path | None
    log_path: Path | None
    before: ResultMarks = ResultMarks()


def kept_metrics(found: Mapping[str, float]) -> str:
    """Write the metrics as the label of a run."""
    return json.dumps({name: to_json(value) for name, value in sorted(found.items())[:_KEPT]})


def read_kept(label: object) -> dict[str, float] | None:
    """Read the metrics of a run's label; None if it has none."""
    if not isinstance(label, str):
        return None
    try:
        return flat_numbers(json.loads(label))
    except (ValueError, RecursionError):
        return None


def read_metrics(files: ResultFiles) -> dict[str, float]:
    """Read the last value of every metric, by name; values may be not finite. Blocking.

    An evaluation's metrics are named ``<task>.<metric>``. Lines of the log that are a JSON object,
    such as ``{"exact_match": 0.9}``, override them. If a training was too short to log the loss of
    a step, its loss is the mean of all steps.
    """
    found: dict[str, float] = {}
    for line in _lines(files.log_path):
        found |= _event(line)
    for event in _events(files):
        found |= event
    mean = found.get("train_loss")
    if mean and found.keys().isdisjoint(_STEP_LOSSES):  # 0 is the mean of a run without steps
        found["loss"] = mean
    for result in _evaluations(files):
        found |= result
    return found


def pick(metrics: Mapping[str, float], name: str) -> float | None:
    """The metric of this name, or the only one whose name ends with ``.<name>``."""
    if name in metrics:
        return metrics[name]
    # Compare as text, because NaN is not equal to itself.
    ending = {to_json(value): value for key, value in metrics.items() if key.endswith(f".{name}")}
    return next(iter(ending.values())) if len(ending) == 1 else None


def task_scores(result: object, task: str) -> dict[str, float]:
    """The scores in the result of an evaluation's task, named ``<task>.<metric>``."""
    prefix = f"{task}." if task else ""
    numbers = {_HARNESS.sub("", key): one for key, one in flat_numbers(result).items()}
    return {prefix + key.removeprefix(prefix): one for key, one in numbers.items()}


def read_curve(files: ResultFiles, metric: str) -> list[Point]:
    """Read the values of a metric by step; values may be not finite. Blocking.

    Each log record is searched for the metric as `pick` does.

    After a resume the later value of a step counts. Steps that the resumed attempt has not reached
    are left out.
    """
    events = list(_events(files)) or [_event(line) for line in _lines(files.log_path)]
    points: dict[int, float] = {}
    for event in events:
        step = to_count(next((event[key] for key in _STEP_KEYS if key in event), None))
        value = pick(event, metric)
        if step is not None and value is not None:
            if points and step < next(reversed(points)):
                points = {at: value for at, value in points.items() if at < step}
            points[step] = value
    return [Point(step, value) for step, value in points.items()]


def read_losses(files: ResultFiles) -> list[Point]:
    """Read the loss of a training by step; values may be not finite. Blocking."""
    curves = [read_curve(files, name) for name in _STEP_LOSSES]
    return max(curves, key=len)


def _events(files: ResultFiles) -> Iterator[dict[str, float]]:
    """Read the training's log records, the oldest first."""
    if files.output_dir is None:
        return
    parts = files.before.parts() if files.before.spans else [(0, None)]
    for start, end in parts:
        for line in _lines(files.output_dir / TRAINING, start=start, end=end):
            yield _event(line)


def _event(line: str) -> dict[str, float]:
    """Read the numbers of a line that a trainer or a script wrote."""
    return {_HARNESS.sub("", name): one for name, one in honest_numbers(line).items()}


def _evaluations(files: ResultFiles) -> Iterator[dict[str, float]]:
    """Read the results of each task, the newest last."""
    if files.output_dir is None:
        return
    results = [path for path in files.output_dir.glob(EVALUATION) if files.before.is_new(path)]
    for path in sorted(results, key=_written_at)[-_RESULTS_MAX:]:
        task = _object(path.with_name(_TASK)).get("task_name")
        yield task_scores(_object(path), task if isinstance(task, str) else "")


def _lines(path: Path | None, *, start: int = 0, end: int | None = None) -> list[str]:
    """Read the last lines of a part of a file."""
    if path is None:
        return []
    try:
        with open_regular_file(path) as file:
            size = file.seek(0, 2)
            end = size if end is None else min(end, size)
            start = max(start, end - _TAIL_BYTES)
            file.seek(start)
            text = file.read(max(0, end - start)).decode("utf-8", "replace")
    except OSError:
        return []
    return text.splitlines()


def _written_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return float("-inf")


def _object(path: Path) -> Mapping[str, Any]:
    try:
        text = read_regular_file(path, limit=_RESULT_BYTES)
        content = cast(object, json.loads(text, parse_int=float))
    except (OSError, ValueError, RecursionError):
        return {}
    return cast("Mapping[str, Any]", content) if isinstance(content, dict) else {}
