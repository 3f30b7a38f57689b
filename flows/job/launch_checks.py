"""The checks of the worker's machine just before a launch."""

import asyncio
import logging

from flows.core.errors import OumiFlowsError
from flows.core.findings import Finding, errors_of, list_errors, warnings_of
from flows.core.foreign_errors import note_defects
from flows.job.launch_plan import LaunchPlan
from flows.machine_checks.checks import WorkerChecks


async def find_blockers(
    checks: WorkerChecks,
    plan: LaunchPlan,
    logger: "logging.Logger | logging.LoggerAdapter[logging.Logger]",
) -> str:
    """Say what prevents a job from running: this machine, the hub or the cloud; "": nothing."""
    try:
        launch = await asyncio.to_thread(plan.launch)
    except OumiFlowsError:
        return ""  # building the job config comes next and reports the error
    found: list[Finding] = []
    with note_defects(lambda error: logger.error("The pre-flight check failed", exc_info=error)):
        found = await checks.before_launch(launch)
    for warning in warnings_of(found):
        logger.warning("Pre-flight: %s", warning.text)
    errors = errors_of(found)
    return f"Pre-flight found {list_errors(errors)}" if errors else ""
