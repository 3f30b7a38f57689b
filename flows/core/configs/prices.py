"""The price of a cluster per hour, from SkyPilot's own catalogue on this machine."""

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from flows.core.configs.clouds import kind_of
from flows.core.configs.yaml_text import mapping_of_yaml

_CATALOGUE: Final = Path(".sky/catalogs/v8")
"""Below the home folder (skypilot 0.12); SkyPilot fetches it, cloud by cloud."""

_PRICED_APART: Final = frozenset({"gcp"})
"""Clouds whose catalogue lists accelerators apart from machines."""


class _Wanted(NamedTuple):
    instance_type: str | None
    accelerator: str | None
    accelerators: float
    region: str | None
    zone: str | None
    price: str


def price_of(job_config: str) -> float | None:
    """Price what a job config (YAML) asks for, as `hourly_price` does. Blocking: it reads files."""
    return hourly_price(mapping_of_yaml(job_config))


def hourly_price(job_config: Mapping[str, Any]) -> float | None:
    """Price all nodes in US dollars per hour, on the cheapest machine that fits; None: unknown.

    The price is known only if the job config names a machine type or an accelerator: SkyPilot's
    other choices depend on more than its catalogue.
    """
    resources: dict[str, Any] = job_config.get("resources") or {}
    cloud = str(resources.get("cloud"))
    wanted = _wanted_machine(resources)
    if not kind_of(cloud).is_sky or wanted is None:
        return None
    if wanted.accelerator and cloud in _PRICED_APART and not wanted.instance_type:
        return None
    prices = _prices(Path.home() / _CATALOGUE / cloud / "vms.csv", wanted)
    cheapest = min(prices, default=None)
    if cheapest is None:
        return None
    return round(cheapest * int(job_config.get("num_nodes") or 1), 4)


def _wanted_machine(resources: Mapping[str, Any]) -> _Wanted | None:
    instance_type, accelerators = resources.get("instance_type"), resources.get("accelerators")
    name, _, count = str(accelerators or "").partition(":")
    if not (instance_type or name):
        return None
    return _Wanted(
        instance_type=instance_type,
        accelerator=name.lower() or None,
        accelerators=_number(count) or 1.0,
        region=resources.get("region"),
        zone=resources.get("zone"),
        price="SpotPrice" if resources.get("use_spot") else "Price",
    )


def _prices(catalogue: Path, wanted: _Wanted) -> Iterator[float]:
    try:
        with catalogue.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                price = _number(row.get(wanted.price)) if _fits(row, wanted) else None
                if price is not None:
                    yield price
    except (OSError, UnicodeDecodeError, csv.Error):
        return


def _fits(row: Mapping[str, str], wanted: _Wanted) -> bool:
    if wanted.instance_type and row.get("InstanceType") != wanted.instance_type:
        return False
    if wanted.accelerator and (
        (row.get("AcceleratorName") or "").lower() != wanted.accelerator
        or _number(row.get("AcceleratorCount")) != wanted.accelerators
    ):
        return False
    return wanted.region in (None, row.get("Region")) and wanted.zone in (
        None,
        row.get("AvailabilityZone"),
    )


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if value == value else None  # noqa: PLR0124 - not of nan
