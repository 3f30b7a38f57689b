"""Job configs that need no model: quick to run, or there to be cancelled."""

from pathlib import Path

GREETING = "hello from the job"

_JOB = """\
name: {name}
resources:
  cloud: {cloud}
run: |
{run}
"""


def job_config(folder: Path, name: str, run: str, *, cloud: str = "local") -> Path:
    """Write ``NAME.yaml``, a job config whose script is `run`."""
    path = folder / f"{name}.yaml"
    indented = "\n".join(f"  {line}" for line in run.splitlines())
    path.write_text(_JOB.format(name=name, cloud=cloud, run=indented))
    return path


def quick_job(folder: Path) -> Path:
    """A job that greets and ends."""
    return job_config(folder, "quick", f'echo "{GREETING}"')


def slow_job(folder: Path) -> Path:
    """A job that greets and stays until it is cancelled, with a child process."""
    return job_config(folder, "slow", f'echo "{GREETING}"\nsleep 600 &\nwait')
