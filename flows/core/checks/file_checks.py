"""Run the checks that need only files: they take milliseconds, in the server or in the worker."""

from flows.core.checks.contradictions import check_contradictions
from flows.core.checks.launch import Launch, read_launch_of
from flows.core.checks.memory import check_disk, check_memory, room_of
from flows.core.checks.paths import PathChecks
from flows.core.checks.processes import check_processes
from flows.core.checks.requested_resources import check_outputs, check_resources
from flows.core.checks.secrets import check_secrets
from flows.core.configs.clouds import is_local
from flows.core.configs.reader import ConfigFile
from flows.core.findings import Finding
from flows.core.models import JobRequest, Value


class FileReport(Value):
    """The findings from reading files."""

    findings: list[Finding]
    paths: dict[str, str]


def check_files(launch: Launch, *, cloud: str = "") -> FileReport:
    """Check everything about a launch that needs only its files.

    Args:
        launch: The launch.
        cloud: The requested cloud; empty: the cloud of the config.
    """
    check_resources(launch, cloud=cloud)
    if launch.job is not None:
        check_secrets(launch.job.notes, launch.job.data)
    room = room_of(launch, None)
    for recipe in launch.recipes:
        check_secrets(recipe.notes, recipe.data)
        check_contradictions(recipe)
        if room is not None:
            check_memory(recipe, room)
        if not launch.target.is_local:
            check_disk(launch, recipe, free_gb=None)
    check_processes(launch)
    checks = PathChecks(launch)
    checks.check()
    check_outputs(launch)
    return FileReport(findings=launch.findings, paths=checks.statuses)


def check_request(request: JobRequest, config: ConfigFile) -> list[Finding]:
    """Check the files of a job before it is submitted."""
    launch = read_launch_of(request, config)
    # A submission without a cloud is for this machine.
    cloud = "" if is_local(request.cloud) else request.cloud
    return check_files(launch, cloud=cloud).findings
