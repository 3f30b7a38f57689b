"""What the cluster of a job costs an hour, for the label of its run."""

import logging
from typing import Final

import httpx
from prefect.exceptions import ObjectNotFound

from flows.core.configs.clouds import kind_of
from flows.core.errors import OumiFlowsError
from flows.core.models import JobHandle
from flows.core.run_labels import RunLabels
from flows.job.run_record import RunRecord
from flows.launcher.port import Launcher

_logger: Final = logging.getLogger("prefect.oumi.price")


async def keep_price(handle: JobHandle, record: RunRecord, launcher: Launcher) -> None:
    """Label the run with the price of its cluster, where only the launched cluster tells it.

    A job config that leaves the choice of a machine to SkyPilot has no price before its launch.
    """
    if not kind_of(handle.cloud).is_sky or record.labels.hourly_price is not None:
        return
    try:
        listed = await launcher.clusters(handle.cloud)
        price = next(
            (one.hourly_cost for one in listed.clusters if one.cluster_name == handle.cluster_name),
            None,
        )
        if price is not None:
            await record.label(RunLabels(hourly_price=price))
    except (OumiFlowsError, httpx.HTTPError, ObjectNotFound) as error:
        _logger.debug("The price of %s is not known: %s", handle.cluster_name, error)
