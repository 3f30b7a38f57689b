"""What an hour of a job counts, and how long its cluster is billed after it."""

from collections.abc import Mapping
from typing import Any, Final

from flows.core.budget.amounts import Rate
from flows.core.configs.clouds import kind_of
from flows.core.configs.prices import hourly_price
from flows.core.models import JobRequest

_IDLE_MINUTES: Final = 60
"""As `DEFAULT_AUTOSTOP_MINUTES` of `flows.launcher.sky.backend`."""


def rate_of(
    request: JobRequest, job_config: Mapping[str, Any], *, price: float | None = None
) -> Rate:
    """What an hour of a job counts. Blocking: it reads the catalogue of prices.

    Args:
        request: The job, with a number of GPUs if it asks for some of this machine.
        job_config: What is launched.
        price: Its price an hour as submitted; None: that of the catalogue here, if it has one.
    """
    if price is None:
        price = hourly_price({**job_config, "resources": _resources(request, job_config)})
    if isinstance(request.gpus, int):
        return Rate(price, request.gpus)
    _, _, count = str(_resources(request, job_config).get("accelerators") or "").partition(":")
    gpus = float(count) if count.replace(".", "", 1).isdigit() else 1.0
    return Rate(price, max(1, round(gpus * int(job_config.get("num_nodes") or 1))))


def idle_seconds(request: JobRequest) -> float:
    """How long a cluster of the job's own is billed after the job's end, until it stops itself."""
    if request.cluster_name or not kind_of(request.cloud).keeps_clusters:
        return 0.0
    return 60.0 * (request.autostop_minutes or _IDLE_MINUTES)


def costs_money(request: JobRequest) -> bool:
    """Whether its machine is rented."""
    kind = kind_of(request.cloud)
    return kind.rents_machines or (kind.makes_clusters and not kind.shares_files)


def _resources(request: JobRequest, job_config: Mapping[str, Any]) -> dict[str, Any]:
    return {"cloud": request.cloud, **(job_config.get("resources") or {})}
