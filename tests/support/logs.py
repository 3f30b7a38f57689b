"""Log files of jobs, where a local worker would write them."""

from pathlib import Path

from flows.core.names import launch_key


def write_log(folder: Path, job_id: str, text: str) -> Path:
    """Add text to the log of a job's first attempt; return its path."""
    path = folder / launch_key(job_id, 1) / "output.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(text)
    return path
