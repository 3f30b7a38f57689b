"""Folders such as Oumi's commands leave."""

import hashlib
import json
from pathlib import Path
from uuid import UUID

from flows.core.configs.marks import MARK, STATE
from flows.core.results.values import ResultsRequest

JOB_ID = "7c459f95-9c55-451d-aabe-02d71035a5be"
OTHER_ID = "11111111-9c55-451d-aabe-02d71035a5be"


def write(path: Path, content: object = "x") -> Path:
    """Write a file: text, or JSON of anything else."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def write_checkpoint(
    folder: Path, step: int, *, job_id: str = JOB_ID, whole: bool = True, **state: object
) -> Path:
    """Write a checkpoint of a job."""
    path = folder / f"checkpoint-{step}"
    write(path / "model.safetensors", f"weights {step}")
    if whole:
        write(path / STATE, {"global_step": step, **state})
        digest = hashlib.sha256((path / STATE).read_bytes()).hexdigest()
        key = f"oumi-{UUID(job_id).hex}-1"
        write(path / MARK, {"job": key, "step": step, "sha256": digest})
    return path


def write_model(folder: Path, **config: object) -> Path:
    """Write a whole model."""
    write(folder / "config.json", {"model_type": "llama", **config})
    write(folder / "tokenizer.json", {})
    return write(folder / "model.safetensors", "weights")


def wanted(output_dir: Path, **facts: object) -> ResultsRequest:
    """The question about a job that wrote to a folder."""
    given = {"job_id": JOB_ID, "output_dir": str(output_dir), **facts}
    return ResultsRequest.model_validate(given)
