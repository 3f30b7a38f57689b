"""What the checks of the worker's machine say just before a launch."""

import asyncio
import logging

from flows.core.errors import OumiFlowsError
from flows.core.findings import errors_of, list_errors, warnings_of
from flows.job.launch_plan import LaunchPlan
from flows.machine_checks.checks import WorkerChecks


async def find_blockers(
    checks: WorkerChecks,
    plan: LaunchPlan,
    logger: "logging.Logger | logging.LoggerAdapter[logging.Logger]",
) -> str:
    """What on this machine, of the hub or of the cloud keeps a job from running; "": nothing."""
    try:
        launch = await asyncio.to_thread(plan.launch)
    except OumiFlowsError:
        return ""  # the job config is made of it next, which says why
    try:
        found = await checks.before_launch(launch)
    except Exception:  # the edge of a check, for whose defects no job must fail
        logger.exception("The pre-flight check failed")
        return ""
    for warning in warnings_of(found):
        logger.warning("Pre-flight: %s", warning.text)
    errors = errors_of(found)
    return f"Pre-flight found {list_errors(errors)}" if errors else ""
