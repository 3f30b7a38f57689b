"""The config of a job as its command reads it: whose replicates it has, what its overrides did."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, cast

from pydantic import Field

from flows.core.configs.overrides import apply_overrides
from flows.core.configs.plan import OUTPUT_KEY, RESUME_KEY
from flows.core.configs.reader import ConfigFile, ConfigKind
from flows.core.configs.schema import CONFIG_TYPE, initial_value
from flows.core.configs.yaml_text import parse_yaml
from flows.core.errors import OumiFlowsError
from flows.core.models import Command, JobRequest, Value
from flows.core.names import TRIAL_ENV
from flows.core.noise import is_seed
from flows.core.numbers import to_number
from flows.core.regular_files import NotRegular, TooLarge, read_regular_file
from mcp_server.prefect_api.models import FlowRun

RESOLVED: Final = Path("telemetry") / "training_config.yaml"
"""The config as Oumi 0.9 trained with it, below the output folder."""

_RESOLVED_BYTES: Final = 2**20
_NAMES: Final = ("run_name", "logging_dir", "output_dir", "output_path")
_PART: Final = re.compile(r"[\w-]+")
_LATE_SECONDS: Final = 60.0


class OverrideEffect(Value):
    """What an override of a job did."""

    job_id: str
    key: str
    value: str
    effect: str = Field(
        description="took effect; changed nothing: the config has this value anyway; not applied: "
        "trained with another value; unknown."
    )
    trained_with: str | None = None


def replicate_key(request: JobRequest, config: ConfigFile) -> str:
    """Describe what a job computes, but for seeds and places: replicates have the same text.

    Raises:
        OumiFlowsError: The overrides do not fit the config.
    """
    data: Mapping[str, Any] = config.data
    if config.kind is ConfigKind.COMMAND:
        data = apply_overrides(config.data, request.overrides, request.command)
    envs = {key: value for key, value in request.envs.items() if not is_seed(key)}
    envs.pop(TRIAL_ENV, None)
    left = {key: value for key, value in flatten(data).items() if not _varies(key)}
    command = request.command if config.kind is ConfigKind.COMMAND else config.kind
    return json.dumps([command, left, envs], sort_keys=True, default=str)


def read_effects(run: FlowRun, request: JobRequest, config: ConfigFile) -> list[OverrideEffect]:
    """Find what each override of a training did. Blocking: it reads files."""
    if config.kind is not ConfigKind.COMMAND:
        return []
    trained = _read_resolved(run) if request.command is Command.TRAIN else None
    return [
        _effect(run.id, key, value, _base(config, request.command, key), trained)
        for key, value in request.overrides.items()
        if key not in (OUTPUT_KEY[request.command], RESUME_KEY)
    ]


def flatten(value: object, prefix: str = "") -> dict[str, object]:
    """Flatten to dotted keys; leave out what is not set."""
    if isinstance(value, dict):
        parts = {str(key): part for key, part in cast("dict[object, object]", value).items()}
        joined = [(f"{prefix}.{key}" if prefix else key, part) for key, part in parts.items()]
    elif isinstance(value, list):
        joined = [(f"{prefix}[{n}]", part) for n, part in enumerate(cast("list[object]", value))]
    else:
        return {} if value is None else {prefix: value}
    found: dict[str, object] = {}
    for key, part in joined:
        found |= flatten(part, key)
    return found


def _varies(key: str) -> bool:
    return is_seed(key) or key.rpartition(".")[2] in _NAMES


def _base(config: ConfigFile, command: Command, key: str) -> object:
    """The value that a key has without an override."""
    written = _look_up(config.data, key)
    return initial_value(CONFIG_TYPE[command], key) if written is _MISSING else written


def _read_resolved(run: FlowRun) -> object:
    """Read the config that a training ran with; None: it is not here, or of another job."""
    folder, began = run.labels.output_dir, run.start_time
    if not folder or began is None:
        return None
    path = Path(folder) / RESOLVED
    try:
        written_at = path.stat().st_mtime
        ended = run.end_time.timestamp() if run.end_time else written_at
        if not began.timestamp() - 1 <= written_at <= ended + _LATE_SECONDS:
            return None
        text = read_regular_file(path, limit=_RESOLVED_BYTES).decode("utf-8", "replace")
        return parse_yaml(text, str(path))
    except (OSError, NotRegular, TooLarge, OumiFlowsError):
        return None


def _effect(job_id: str, key: str, value: object, base: object, trained: object) -> OverrideEffect:
    actual = _look_up(trained, key)
    shown = None if actual is _MISSING else str(actual)
    if actual is not _MISSING and not _same(actual, value):
        effect = "not applied"
    elif _same(base, value):
        effect = "changed nothing"
    else:
        effect = "unknown" if actual is _MISSING else "took effect"
    return OverrideEffect(
        job_id=job_id, key=key, value=str(value), effect=effect, trained_with=shown
    )


_MISSING: Final = object()


def _look_up(data: object, key: str) -> object:
    here = data
    for part in _PART.findall(key):
        if isinstance(here, dict) and part in here:
            here = cast("dict[str, object]", here)[part]
        elif isinstance(here, list) and part.isdecimal():
            items = cast("list[object]", here)
            here = items[int(part)] if int(part) < len(items) else _MISSING
        else:
            return _MISSING
    return here


def _same(one: object, other: object) -> bool:
    """Whether two values mean the same to Oumi: 1e-4 and 0.0001, ADAMW and adamw."""
    if isinstance(one, list) and isinstance(other, list):
        ours, theirs = cast("list[object]", one), cast("list[object]", other)
        return len(ours) == len(theirs) and all(map(_same, ours, theirs))
    return not isinstance(one, list) and _same_scalar(one, other)


def _same_scalar(one: object, other: object) -> bool:
    numbers = to_number(one), to_number(other)
    if None not in numbers:
        return numbers[0] == numbers[1]
    return str(one).lower() == str(other).lower()
