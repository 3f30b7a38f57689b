"""The numbers a job leaves behind: of its evaluation, its training, or its own output."""

import ast
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple, cast

EVALUATION: Final = "*/task_result.json"
"""What `oumi evaluate` 0.9 writes below its output folder, one for each task."""
TRAINING: Final = "metrics_rank0000.jsonl"
"""What Oumi 0.9's trainers write: a line for each log event; after a resume steps repeat."""

_TASK: Final = "task_params.json"
_TAIL_BYTES: Final = 2**20
_LINE_CHARS: Final = 10_000
_KEPT: Final = 200
CLOCK_SECONDS: Final = 2.0
"""File systems keep times coarsely: how much older than its job a file of it may look."""
_HARNESS = re.compile(r"^results\.|,none$")
_STEP_KEYS: Final = ("step", "global_step")


class Point(NamedTuple):
    """A metric's value at a step."""

    step: int
    value: float


class ResultFiles(NamedTuple):
    """Where the results of a job are.

    Attributes:
        output_dir: Its folder of results, if it has one.
        log_path: Its log.
        since: When it began, in seconds since the epoch; older files are of another job.
    """

    output_dir: Path | None
    log_path: Path | None
    since: float = 0.0


def kept_metrics(found: Mapping[str, float]) -> str:
    """The metrics as the label of a run has them."""
    return json.dumps(dict(sorted(found.items())[:_KEPT]))


def read_metrics(files: ResultFiles) -> dict[str, float]:
    """Every metric by its name, the last value of each.

    An evaluation's are named ``<task>.<metric>``. What a script prints counts last: lines that are
    a JSON object, such as ``{"exact_match": 0.9}``.
    """
    found: dict[str, float] = {}
    for line in _lines(files.log_path, since=0.0):
        found |= _numbers(_parse(line))
    for event in _events(files):
        found |= _numbers(event)
    for result in _evaluations(files):
        found |= result
    return found


def pick(metrics: Mapping[str, float], name: str) -> float | None:
    """The metric of this name, or the only one whose name ends with ``.<name>``."""
    if name in metrics:
        return metrics[name]
    ending = {value for key, value in metrics.items() if key.endswith(f".{name}")}
    return ending.pop() if len(ending) == 1 else None


def read_curve(files: ResultFiles, metric: str) -> list[Point]:
    """The values a metric had while the job ran, by step; after a resume the last one counts."""
    events = list(_events(files)) or [_parse(line) for line in _lines(files.log_path, since=0.0)]
    points: dict[int, float] = {}
    for event in events:
        numbers = _numbers(event)
        step = next((numbers[key] for key in _STEP_KEYS if key in numbers), None)
        if step is not None and metric in numbers:
            points[int(step)] = numbers[metric]
    return [Point(step, points[step]) for step in sorted(points)]


def _events(files: ResultFiles) -> Iterator[Mapping[str, Any]]:
    path = files.output_dir / TRAINING if files.output_dir else None
    for line in _lines(path, since=files.since):
        yield _parse(line)


def _evaluations(files: ResultFiles) -> Iterator[dict[str, float]]:
    """The results of each task, the newest last."""
    if files.output_dir is None:
        return
    written = ((path, _written_at(path)) for path in files.output_dir.glob(EVALUATION))
    fresh = [(at, path) for path, at in written if at >= files.since - CLOCK_SECONDS]
    for _, path in sorted(fresh):
        task = _object(path.with_name(_TASK)).get("task_name")
        prefix = f"{task}." if isinstance(task, str) and task else ""
        numbers = _numbers(_object(path))
        yield {prefix + name.removeprefix(prefix): value for name, value in numbers.items()}


def _lines(path: Path | None, *, since: float) -> Iterable[str]:
    """The lines of the end of a file that was written since."""
    if path is None or _written_at(path) < since - CLOCK_SECONDS:
        return []
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - _TAIL_BYTES))
            text = file.read(_TAIL_BYTES).decode("utf-8", "replace")
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
        content = cast(object, json.loads(path.read_bytes()))
    except (OSError, ValueError):
        return {}
    return cast("Mapping[str, Any]", content) if isinstance(content, dict) else {}


def _parse(line: str) -> Mapping[str, Any]:
    """The mapping that a line is, in JSON or as Python prints it; empty if it is none."""
    line = line.strip()
    if not (line.startswith("{") and line.endswith("}")) or len(line) > _LINE_CHARS:
        return {}
    try:
        content = cast(object, json.loads(line))
    except ValueError:
        try:
            content = cast(object, ast.literal_eval(line))
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return {}
    return cast("Mapping[str, Any]", content) if isinstance(content, dict) else {}


def _numbers(content: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """The finite numbers in a mapping, by dotted key."""
    found: dict[str, float] = {}
    for key, value in content.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            found |= _numbers(cast("Mapping[str, Any]", value), f"{name}.")
        elif (number := _number(value)) is not None:
            found[_HARNESS.sub("", name)] = number
    return found


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str) or "_" in str(value):
        return None
    try:
        # Trainers print numbers as text: {'loss': '4.162'}.
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
