"""The `pre-flight-check` flow: the checks of a config on the worker's machine."""

from pathlib import Path

import anyio.to_thread
from prefect import flow

from flows.answers.answering import answering
from flows.core.checks.launch import Launch, read_launch
from flows.core.configs.reader import read_config
from flows.core.findings import WorkerFindings
from flows.core.models import GpuCount
from flows.core.names import PRE_FLIGHT_FLOW
from flows.job.runtime import current_runtime
from flows.machine_checks.checks import WorkerChecks


@flow(
    name=PRE_FLIGHT_FLOW,
    persist_result=False,
    description="Check what a config needs of the machine that runs it, of the hub and of clouds.",
)
@answering
async def pre_flight_check(
    config_path: str, client_cwd: str, cloud: str = "", gpus: GpuCount | None = None
) -> WorkerFindings:
    """Check a launch on this machine; the MCP server checks the files themselves.

    Args:
        config_path: Absolute path of the config.
        client_cwd: Absolute folder that relative paths start from.
        cloud: The requested cloud; empty: the one of the job config, else this machine.
        gpus: GPUs of this machine for the job; None: one share.
    """

    def read() -> Launch:
        config = read_config(Path(config_path))
        return read_launch(config, client_cwd=client_cwd, cloud=cloud, gpus=gpus)

    launch = await anyio.to_thread.run_sync(read)
    checks = current_runtime().checks or WorkerChecks.of_this_machine()
    return await checks.all(launch)
