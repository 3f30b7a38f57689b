"""The prompts; their prose is in guidance/."""

from typing import Annotated

from mcp.server.mcpserver.prompts import Prompt
from pydantic import Field

from mcp_server.guidance import read_guidance


def launch_training(
    config_path: Annotated[str, Field(description="Oumi config (YAML).")],
    client_cwd: Annotated[str, Field(description="Absolute path of your working folder.")],
) -> str:
    """Check an Oumi config, show what would run, and start it when the person agrees."""
    return read_guidance("launch_training", config_path=config_path, client_cwd=client_cwd)


def babysit_job(job_id: Annotated[str, Field(description="The job to watch.")]) -> str:
    """Watch a job until it ends and report what matters."""
    return read_guidance("babysit_job", job_id=job_id)


def post_mortem(job_id: Annotated[str, Field(description="The job that ended.")]) -> str:
    """Find out why a job ended, with evidence."""
    return read_guidance("post_mortem", job_id=job_id)


def prompts() -> list[Prompt]:
    """Every prompt."""
    return [
        Prompt.from_function(launch_training, title="Launch a training job"),
        Prompt.from_function(babysit_job, title="Watch a job"),
        Prompt.from_function(post_mortem, title="Find out why a job ended"),
    ]
