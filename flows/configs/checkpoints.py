"""Finding the checkpoint a training can resume from."""

import json
import re
from pathlib import Path
from typing import Final, cast

from flows.models import Value

_NAME: Final = re.compile(r"checkpoint-(\d+)")
_STATE: Final = "trainer_state.json"
_INDEX: Final = "*.index.json"
_WEIGHTS: Final = (
    "*.safetensors",
    "pytorch_model*.bin",
    "adapter_model.bin",
    "pytorch_model_fsdp*/*",  # FSDP, sharded
    "global_step*/*",  # DeepSpeed
    "model/*",  # Oumi's own trainer
)


class Checkpoint(Value):
    """A whole checkpoint of a training run."""

    path: Path
    step: int


def last_whole_checkpoint(output_dir: Path, *, since: float = 0.0) -> Checkpoint | None:
    """The whole checkpoint with the highest step, if there is one.

    A checkpoint that was being written when its process died is skipped: the trainers write
    ``trainer_state.json`` last.

    Args:
        output_dir: The folder that the training writes to.
        since: Seconds since the epoch; what was whole before belongs to another training.
    """
    try:
        found = [(int(m[1]), p) for p in output_dir.iterdir() if (m := _NAME.fullmatch(p.name))]
    except OSError:
        return None
    for step, path in sorted(found, reverse=True):
        if _is_whole(path, since):
            return Checkpoint(path=path, step=step)
    return None


def _is_whole(path: Path, since: float) -> bool:
    try:
        if (path / _STATE).stat().st_mtime < since:
            return False
        state = cast(object, json.loads((path / _STATE).read_bytes()))
        return bool(state) and isinstance(state, dict) and _has_weights(path)
    except (OSError, ValueError):
        return False


def _has_weights(path: Path) -> bool:
    files = {file for pattern in _WEIGHTS for file in path.glob(pattern)}
    if not files or any(file.stat().st_size == 0 for file in files):
        return False
    names = {file.name for file in files}
    return all(_shards(index) <= names for index in path.glob(_INDEX))


def _shards(index: Path) -> set[str]:
    """The names of the files a sharded model's index lists."""
    try:
        content = cast("dict[str, dict[str, str]]", json.loads(index.read_bytes()))
        return set(content["weight_map"].values())
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{index} is not an index of weights") from error
