"""All checks of the worker's machine, for a launch that was read from its files."""

import asyncio
import logging
import os
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from flows.core.checks.config_errors import note_oumi_problems
from flows.core.checks.launch import Launch
from flows.core.checks.recipe import Recipe
from flows.core.configs.schema import JUDGE_OPTIONS, ConfigType
from flows.core.findings import CloudReadiness, Finding, FindingCode, Gpu, Hardware, WorkerFindings
from flows.core.foreign_errors import note_defects
from flows.core.settings import Settings
from flows.launcher.bounded import Looks, in_time
from flows.launcher.oumi.machine import Machine
from flows.launcher.oumi.registry import OumiRegistry
from flows.launcher.sky.readiness import SkyReadiness
from flows.machine_checks.credentials import check_credentials
from flows.machine_checks.data_files import DataFileCheck
from flows.machine_checks.hardware import check_hardware, count_of
from flows.machine_checks.hub import Hub
from flows.machine_checks.repositories import RepositoryChecks
from flows.machine_checks.training_data import TrainingDataCheck

T = TypeVar("T")

_logger = logging.getLogger("prefect.oumi.checks")

_HUB_SECONDS: Final = 2.5
"""For the hub just before a launch."""
_SOON_SECONDS: Final = 1.5
"""For the hub and for SkyPilot while a client waits for the answer."""
_SKY_SECONDS: Final = 10.0
"""For SkyPilot just before a launch, while a cluster would take minutes."""
_OUMI_SECONDS: Final = 30.0
"""For Oumi's classes just before a launch; their first import takes most of it."""
_HERE_SECONDS: Final = 10.0
"""The same for a job on this machine, which would fail within a minute itself."""


@dataclass(frozen=True)
class WorkerChecks:
    """The checks of one machine.

    Attributes:
        environ: The environment of jobs on this machine.
        data: Looks at the first rows of training data.
        files: Reads data files whole.
        soon_seconds: How long the hub and the cloud may take to answer a call.
    """

    machine: Machine
    hub: Hub
    registry: OumiRegistry
    clouds: SkyReadiness
    environ: Mapping[str, str]
    looks: Looks = field(default_factory=Looks)
    data: TrainingDataCheck = field(default_factory=TrainingDataCheck)
    files: DataFileCheck = field(default_factory=DataFileCheck)
    soon_seconds: float = _SOON_SECONDS

    @classmethod
    def of_this_machine(cls) -> "WorkerChecks":
        """The checks of the worker's own machine."""
        return cls(
            machine=Machine(slots=Settings().local_slots),
            hub=Hub(os.environ, timeout_seconds=_HUB_SECONDS),
            registry=OumiRegistry(),
            clouds=SkyReadiness(),
            environ=os.environ,
        )

    async def before_launch(self, launch: Launch) -> list[Finding]:
        """Check just before a launch; a launch that needs nothing special costs nothing."""
        launch.forget_findings()
        repositories = RepositoryChecks(launch, self.hub, self.registry)
        data, _ = await asyncio.gather(
            _part(launch, "the training data", self._data(launch)), repositories.check()
        )
        if data:
            _logger.info("Training data: %s", data)
        needs_look = launch.gpus is not None or any(
            recipe.model_name or recipe.engine[1] != "NATIVE" for recipe in launch.recipes
        )
        if needs_look:
            await asyncio.to_thread(self._check_machine, launch)
        if launch.target.is_local and launch.recipes:
            here = in_time(lambda: self._check_with_oumi(launch), timeout_seconds=_HERE_SECONDS)
            await _part(launch, "Oumi's classes", here)
        if not launch.target.is_local:
            # A useless cluster would cost more than the time of these checks.
            oumi = in_time(lambda: self._check_with_oumi(launch), timeout_seconds=_OUMI_SECONDS)
            await asyncio.gather(
                _part(launch, "the cloud", self._clouds(launch, within_seconds=_SKY_SECONDS)),
                _part(launch, "Oumi's classes", oumi),
            )
        return launch.findings

    async def all(self, launch: Launch) -> WorkerFindings:
        """Run all checks of a launch, with short time limits."""
        launch.forget_findings()
        repositories = RepositoryChecks(launch, self.hub, self.registry)
        hub, hardware, clouds, data = await asyncio.gather(
            _part(launch, "the repositories", repositories.check(within_seconds=self.soon_seconds)),
            _part(launch, "the machine", asyncio.to_thread(self._check_machine, launch)),
            _part(launch, "the cloud", self._clouds(launch, within_seconds=self.soon_seconds)),
            _part(launch, "the training data", self._data(launch)),
        )
        # Not beside the hub, whose answers would wait for the processor.
        oumi = asyncio.to_thread(self._check_with_oumi, launch)
        await _part(launch, "Oumi's classes", oumi)
        found = launch.findings
        return WorkerFindings(
            summary=f"The worker found {len(found)} things.",
            findings=found,
            hf_authenticated=hub,
            repo_access=repositories.access,
            dataset_checks=repositories.datasets,
            training_data=data or "",
            hardware=_of_target(launch, hardware) if hardware else None,
            cloud_readiness=clouds,
        )

    async def _data(self, launch: Launch) -> str:
        await self.files.check(launch)
        return await self.data.check(launch)

    def _check_machine(self, launch: Launch) -> Hardware:
        hardware = self.machine.hardware()
        check_hardware(launch, self.machine, hardware)
        check_credentials(launch, self.environ)
        return hardware

    def _check_with_oumi(self, launch: Launch) -> None:
        """Let Oumi's own classes, and those of its trainers, check every config of the launch."""
        from flows.launcher.oumi.config_classes import oumi_problems
        from flows.launcher.oumi.trainer_checks import trainer_problems

        is_local = launch.target.is_local
        if launch.job is not None:
            problems = oumi_problems(launch.job.data, ConfigType.JOB, folder=launch.client_cwd)
            note_oumi_problems(launch.job.notes, problems, is_local=is_local)
        is_ours = is_local and not (launch.job is not None and launch.job.brings_environment)
        for recipe in launch.recipes:
            folder = recipe.base or launch.client_cwd
            problems = oumi_problems(_without_options(recipe), recipe.config_type, folder=folder)
            # Files and packages have checks of their own, which know what scripts create and
            # install.
            relevant = [problem for problem in problems if not problem.is_of_host]
            note_oumi_problems(recipe.notes, relevant, is_local=is_local)
            if recipe.config_type is ConfigType.TRAINING:
                refused = trainer_problems(
                    recipe.data,
                    problems,
                    folder=folder,
                    processes=count_of(launch, recipe, self.machine),
                )
                note_oumi_problems(recipe.notes, refused, is_local=is_ours)

    async def _clouds(self, launch: Launch, *, within_seconds: float) -> CloudReadiness | None:
        """Whether SkyPilot can use the target; None if the target is no cloud of SkyPilot."""
        if not launch.target.is_sky:
            return None
        cloud = launch.target.cloud
        try:
            readiness = await self.looks.answer(
                cloud, lambda: self.clouds.readiness(cloud), within_seconds=within_seconds
            )
        except TimeoutError:
            readiness = CloudReadiness(
                target_cloud=cloud, reason=f"SkyPilot did not answer within {within_seconds:g} s"
            )
        if readiness.target_cloud_ready is not True:
            note = launch.notes.warning
            if readiness.target_cloud_ready is False:
                note = launch.notes.error
            note(
                FindingCode.CLOUD_NOT_READY,
                f"cloud {cloud} cannot be used: {readiness.reason}"
                if readiness.target_cloud_ready is False
                else f"it is unknown whether cloud {cloud} can be used: {readiness.reason}",
                readiness.next_step
                or f"Run `sky check` on the worker's machine and follow its advice for {cloud}",
                key="resources.cloud" if launch.job else "",
            )
        return readiness


async def _part(launch: Launch, what: str, check: Awaitable[T]) -> T | None:
    """Run one part of the checks; None if it raised, so that the other parts still count."""

    def note(error: Exception) -> None:
        _logger.error("The check of %s failed", what, exc_info=error)
        launch.notes.warning(
            FindingCode.WORKER_NOT_ASKED,
            f"the check of {what} failed ({type(error).__name__}), so its findings are missing",
            "Read the worker's log, and report the error",
        )

    with note_defects(note):
        return await check
    return None


def _of_target(launch: Launch, hardware: Hardware) -> Hardware:
    """The known hardware of the machine that runs the job."""
    if launch.target.is_local:
        return hardware
    asked = launch.target.accelerator
    gpus: list[Gpu] = []
    if asked and asked.model:
        gpu = Gpu(
            name=asked.name,
            memory_gb=asked.model.memory_gb,
            compute_capability=str(asked.model.capability),
        )
        gpus = [gpu] * min(int(asked.number), 16)
    return Hardware(
        where=launch.target.cloud,
        accelerator_type="cuda" if gpus else "unknown",
        accelerator_count=int(asked.number * launch.target.num_nodes) if asked else None,
        gpus=gpus,
    )


def _without_options(recipe: Recipe) -> dict[str, Any]:
    """The config, less the overrides that Oumi's command takes as options alone."""
    options = JUDGE_OPTIONS.keys() if recipe.config_type is ConfigType.JUDGE else set[str]()
    return {key: value for key, value in recipe.data.items() if key not in options}
