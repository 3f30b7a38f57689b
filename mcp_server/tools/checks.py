"""The tools that check a config before it is launched."""

from typing import Annotated, Literal

from mcp.server.mcpserver.tools import Tool
from pydantic import Field

from flows.core.findings import ConfigValidation, PreFlight
from flows.core.models import GpuCount
from mcp_server.services.checks import CheckService
from mcp_server.tools.edge import make_tool

Path = Annotated[str, Field(min_length=1, max_length=4096)]
TaskType = Literal[
    "training",
    "evaluation",
    "inference",
    "tuning",
    "synthesis",
    "quantization",
    "job",
    "judge",
    "analyze",
    "async_evaluation",
]
Config = Annotated[Path, Field(description="YAML file, absolute or in client_cwd.")]
Folder = Annotated[Path, Field(description="Absolute folder.")]


class CheckTools:
    """The methods are the tools.

    Args:
        checks: Use cases of checks.
    """

    def __init__(self, checks: CheckService) -> None:
        self._checks = checks

    def tools(self) -> list[Tool]:
        """The tools."""
        return [
            make_tool(self.validate_config, title="Validate a config"),
            make_tool(self.pre_flight_check, title="Pre-flight check", open_world=True),
        ]

    async def validate_config(
        self,
        *,
        config: Config,
        task_type: Annotated[TaskType, Field(description="Type of config.")],
        client_cwd: Folder,
        cloud: Annotated[str, Field(max_length=64, description="Cloud it will run on.")] = "local",
    ) -> ConfigValidation:
        """Check a config against Oumi's schema and classes, and list every problem.

        Each with key, line, message and nearest valid name. Use it after changing a config.
        """
        return await self._checks.validate(
            config, task_type=task_type, client_cwd=client_cwd, cloud=cloud
        )

    async def pre_flight_check(
        self,
        *,
        config: Config,
        client_cwd: Folder,
        cloud: Annotated[
            str, Field(max_length=64, description="Empty: that of the job config.")
        ] = "",
        gpus: Annotated[GpuCount | None, Field(description="As run_oumi_job takes.")] = None,
    ) -> PreFlight:
        """Look for problems that would make a job fail, before it starts.

        Hub access, data, paths, packages, GPU memory, disk, credentials, scripts. errors block a
        launch, warnings do not. Use it before every launch on a cloud.
        """
        return await self._checks.pre_flight(config, client_cwd=client_cwd, cloud=cloud, gpus=gpus)
