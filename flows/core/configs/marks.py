"""Read the marks that say which job wrote a checkpoint or a model."""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, cast
from uuid import UUID

from flows.core.models import Value

MARK: Final = "oumi_flows.json"
"""The file's name, as `flows/launcher/progress_hook.py` writes it."""
CHECKPOINT: Final = "checkpoint-"
STATE: Final = "trainer_state.json"
"""The file that Transformers writes last into a checkpoint."""

_MOST_BYTES: Final = 4096
_KEY: Final = re.compile(r"oumi-([0-9a-f]{32})-(\d{1,9})")


class Mark(Value):
    """Who wrote a folder.

    Attributes:
        job_id: The job; None: the mark does not match the folder's content, so another training
            wrote into it later.
        attempt: Which attempt of the job.
    """

    job_id: UUID | None = None
    attempt: int = 0


def read_mark(folder: Path) -> Mark | None:
    """Read the mark in a checkpoint or in a model's folder; None if there is none."""
    try:
        with (folder / MARK).open("rb") as file:
            content = cast(object, json.loads(file.read(_MOST_BYTES)))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError):
        return Mark()
    return _mark(content, folder)


def named_in(content: object) -> Mark:
    """Read the job and attempt that the content of a mark names."""
    fields = cast("dict[str, Any]", content) if isinstance(content, dict) else {}
    key = _KEY.fullmatch(str(fields.get("job")))
    return Mark() if key is None else Mark(job_id=UUID(key[1]), attempt=int(key[2]))


def _mark(content: object, folder: Path) -> Mark:
    mark = named_in(content)
    if mark.job_id is None or not _fits(cast("dict[str, Any]", content), folder):
        return Mark()
    return mark


def _fits(fields: Mapping[str, Any], folder: Path) -> bool:
    """Whether a checkpoint matches its mark; a model's folder has nothing to compare."""
    if not folder.name.startswith(CHECKPOINT):
        return True
    if f"{CHECKPOINT}{fields.get('step')}" != folder.name:
        return False  # a copy under another name
    try:
        last = (folder / STATE).read_bytes()
    except OSError:
        return False
    return hashlib.sha256(last).hexdigest() == fields.get("sha256")
