"""Checks of a config before its launch; the tools and the terminal both call this."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import anyio.to_thread

from flows.core.checks.config_errors import note_content, note_oumi_problems, read_or_find
from flows.core.checks.file_checks import FileReport, check_files
from flows.core.checks.launch import read_launch
from flows.core.checks.notes import Notes
from flows.core.checks.recipe import guess_type
from flows.core.configs.checks import other_type
from flows.core.configs.clouds import find_kind, is_local, known_cloud
from flows.core.configs.reader import ConfigFile, ConfigKind, resolve_config_path
from flows.core.configs.schema import ConfigType
from flows.core.configs.yaml_lines import Places
from flows.core.errors import EngineUnavailable, InternalError, OperationTimeout, OumiFlowsError
from flows.core.file_names import expand_home
from flows.core.findings import (
    ConfigValidation,
    Finding,
    FindingCode,
    OumiVerdict,
    PreFlight,
    WorkerFindings,
    count_findings,
    errors_of,
    first_findings,
    warnings_of,
)
from flows.core.models import GpuCount
from flows.core.names import LOCAL_CLOUD, PRE_FLIGHT_FLOW, VALIDATE_FLOW
from flows.core.settings import Settings
from mcp_server.catalog.catalog import Catalog
from mcp_server.prefect_api.gateway import PrefectGateway
from mcp_server.services.direct_questions import DirectQuestions
from mcp_server.services.worker_calls import WorkerCalls

_START_SECONDS: Final = 5.0
_NAMES: Final = 10
_LONGEST_NAME: Final = 100
_LONGEST_NOTE: Final = 300

Suggest = Callable[[str, str], Sequence[str]]
"""Paths of configs that fit a model and a type of config."""

_NOT_ANSWERED: Final = (EngineUnavailable, OperationTimeout, InternalError)
"""Errors after which the answer has only the checks of this machine."""


def make_checks(
    settings: Settings,
    gateway: PrefectGateway,
    configs: Catalog,
    *,
    patience_seconds: float | None = None,
) -> "CheckService":
    """Make the checks on one engine, with suggestions from one catalogue.

    Args:
        settings: Where the engine is, and how long a check waits for its worker's answer.
        gateway: Prefect's API.
        configs: The catalogue.
        patience_seconds: How long a check waits for an engine that starts before it answers what is
            known without the worker; None: as long as it takes.
    """
    direct = DirectQuestions(gateway, settings.engine_dir, patience_seconds=patience_seconds)
    return CheckService(
        WorkerCalls(gateway, direct=direct),
        timeout_seconds=settings.check_timeout_seconds,
        suggest=lambda model_name, task: configs.suggest(model_name=model_name, task=task),
    )


class CheckService:
    """Checks configs: reads the files here, and asks the worker about the rest.

    Args:
        calls: Questions to the worker.
        timeout_seconds: How long to wait for its answers.
        start_seconds: How long to wait for an engine that is not up yet.
        suggest: Paths of the catalogue's configs for a model and a task.
    """

    def __init__(
        self,
        calls: WorkerCalls,
        *,
        timeout_seconds: float,
        start_seconds: float = _START_SECONDS,
        suggest: Suggest = lambda model_name, task: [],
    ) -> None:
        self._calls = calls
        self._suggest = suggest
        self._timeout_seconds = timeout_seconds
        self._start_seconds = start_seconds

    async def validate(
        self, config: str, *, task_type: str | None, client_cwd: str, cloud: str = LOCAL_CLOUD
    ) -> ConfigValidation:
        """List every problem of a config by Oumi's schema and its classes.

        Args:
            config: Path of the config.
            task_type: Type of config; None: the one that its keys show.
            client_cwd: Absolute folder that relative paths start from.
            cloud: Where it will run; what only this machine lacks is a warning elsewhere.

        Raises:
            ConfigNotFound: There is no such file.
        """
        asked = await anyio.to_thread.run_sync(_read, config, client_cwd, task_type)
        path = asked.path
        config_type = ConfigType(task_type) if task_type else _type_of(asked.read)
        if isinstance(asked.read, Finding):
            return _validation(path, config_type, [asked.read])
        notes = Notes(str(path), Places(asked.read.text))
        note_content(notes, asked.read, config_type)
        if other_type(asked.read.data, config_type) is not None:
            return _validation(path, config_type, notes.findings)
        try:
            await self._calls.refuse_if_starting(within_seconds=self._start_seconds)
            verdict = await self._calls.call(
                VALIDATE_FLOW,
                {
                    "config_path": str(path),
                    "task_type": config_type.value,
                    "client_cwd": str(asked.folder),
                },
                OumiVerdict,
                timeout_seconds=self._timeout_seconds,
                name=f"{VALIDATE_FLOW} {path.name}",
            )
        except _NOT_ANSWERED as error:
            _note_no_answer(notes, error, FindingCode.OUMI_NOT_ASKED)
        else:
            here = is_local(_target(asked.read, cloud))
            note_oumi_problems(notes, verdict.problems, is_local=here)
        return _validation(path, config_type, notes.findings)

    async def pre_flight(
        self, config: str, *, client_cwd: str, cloud: str = "", gpus: GpuCount | None = None
    ) -> PreFlight:
        """List every problem that would stop or harm a run of the config.

        Args:
            config: Path of the config.
            client_cwd: Absolute folder that relative paths start from.
            cloud: Where it will run; empty: the cloud of a job config, else this machine.
            gpus: GPUs of the worker's machine for the job; None: one share.

        Raises:
            ConfigNotFound: There is no such file.
        """
        cloud = known_cloud(cloud)
        asked = await anyio.to_thread.run_sync(_read, config, client_cwd)
        if isinstance(asked.read, Finding):
            return _pre_flight([asked.read])
        here = await anyio.to_thread.run_sync(
            _check_files, asked.read, str(asked.folder), cloud, gpus
        )
        found = list(here.report.findings)
        worker: WorkerFindings | None = None
        try:
            await self._calls.refuse_if_starting(within_seconds=self._start_seconds)
            worker = await self._calls.call(
                PRE_FLIGHT_FLOW,
                {
                    "config_path": str(asked.path),
                    "client_cwd": str(asked.folder),
                    "cloud": cloud if find_kind(cloud) else "",
                    **({} if gpus is None else {"gpus": gpus}),
                },
                WorkerFindings,
                timeout_seconds=self._timeout_seconds,
                name=f"{PRE_FLIGHT_FLOW} {asked.path.name}",
            )
        except _NOT_ANSWERED as error:
            notes = Notes(str(asked.path), None)
            _note_no_answer(notes, error, FindingCode.WORKER_NOT_ASKED)
            found += notes.findings
        else:
            found = _without_partial(found, worker.findings) + worker.findings
        suggested: Sequence[str] = []
        if here.model_name:
            suggested = await anyio.to_thread.run_sync(self._suggest, here.model_name, here.task)
        return _pre_flight(found, here=here, worker=worker, suggested=suggested)


def _without_partial(here: list[Finding], worker: Sequence[Finding]) -> list[Finding]:
    """Drop what we found at the beginning of files that the worker has read whole."""
    code = FindingCode.BAD_DATA_FILE
    whole = {(one.file, one.key) for one in worker if one.code is code}
    return [one for one in here if one.code is not code or (one.file, one.key) not in whole]


class _Here(NamedTuple):
    report: FileReport
    model_name: str
    task: str
    followed: list[str]


def _check_files(config: ConfigFile, client_cwd: str, cloud: str, gpus: GpuCount | None) -> _Here:
    launch = read_launch(config, client_cwd=client_cwd, cloud=cloud, gpus=gpus)
    report = check_files(launch, cloud=cloud)
    recipe = launch.recipes[0] if launch.recipes else None
    return _Here(
        report,
        model_name=recipe.model_name if recipe else "",
        task=recipe.config_type.value if recipe else "",
        followed=[recipe.path for recipe in launch.recipes] if launch.job else [],
    )


def _pre_flight(
    found: Sequence[Finding],
    *,
    here: _Here | None = None,
    worker: WorkerFindings | None = None,
    suggested: Sequence[str] = (),
) -> PreFlight:
    errors, warnings = errors_of(found), warnings_of(found)
    if errors:
        summary = f"Blocked: {count_findings(errors, warnings)}; first: {errors[0].text}"
    elif warnings:
        summary = (
            f"Nothing blocks it; {count_findings(errors, warnings)}; first: {warnings[0].text}"
        )
    else:
        summary = "Ready: nothing was found."
    return PreFlight(
        summary=" ".join(summary.split())[:500],
        blocking=bool(errors),
        errors=first_findings(errors),
        warnings=first_findings(warnings),
        hf_authenticated=worker.hf_authenticated if worker else None,
        repo_access=_few(worker.repo_access) if worker else {},
        hardware=worker.hardware if worker else None,
        cloud_readiness=worker.cloud_readiness if worker else None,
        paths=_few(here.report.paths) if here else {},
        dataset_checks=_few(worker.dataset_checks) if worker else {},
        training_data=worker.training_data[:_LONGEST_NOTE] if worker else "",
        suggested_configs=list(suggested),
        followed_configs=here.followed if here else [],
    )


def _few(statuses: Mapping[str, str]) -> dict[str, str]:
    """Keep as many as an answer can hold, those with problems first."""
    order = sorted(statuses, key=lambda name: statuses[name] in ("valid", "writable", "cached"))
    return {name[-_LONGEST_NAME:]: statuses[name] for name in order[:_NAMES]}


class _Asked(NamedTuple):
    path: Path
    folder: Path
    read: ConfigFile | Finding


def _read(config: str, client_cwd: str, task_type: str | None = None) -> _Asked:
    config_type = ConfigType(task_type) if task_type else None
    path = resolve_config_path(config, client_cwd, config_type)
    return _Asked(path, expand_home(client_cwd), read_or_find(path))


def _type_of(read: ConfigFile | Finding) -> ConfigType:
    if isinstance(read, Finding):
        return ConfigType.TRAINING
    return ConfigType.JOB if read.kind is ConfigKind.JOB else guess_type(read.data)


def _target(config: ConfigFile, cloud: str) -> str:
    resources = config.data.get("resources")
    named = resources.get("cloud") if isinstance(resources, dict) else None  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
    return named if isinstance(named, str) else cloud


def _note_no_answer(notes: Notes, error: OumiFlowsError, code: FindingCode) -> None:
    notes.warning(code, f"The worker did not respond; its checks were skipped: {error.what}",
                  error.next_step)  # fmt: skip


def _validation(path: Path, config_type: ConfigType, found: Sequence[Finding]) -> ConfigValidation:
    errors, warnings = errors_of(found), warnings_of(found)
    kind = config_type.value.replace("_", " ")
    if errors:
        verdict = f"{path.name} is not a valid {kind} config: {count_findings(errors, warnings)}"
        verdict += f"; first: {errors[0].text}"
    elif any(finding.code is FindingCode.OUMI_NOT_ASKED for finding in warnings):
        verdict = f"{path.name}: keys and types fit a {kind} config; Oumi did not check it"
    else:
        noted = f", with {count_findings(errors, warnings)}" if warnings else ""
        verdict = f"{path.name} is a valid {kind} config{noted}"
    return ConfigValidation(
        summary=" ".join(verdict.split())[:500],
        valid=not errors,
        config_path=str(path),
        task_type=config_type.value,
        errors=first_findings(errors),
        warnings=first_findings(warnings),
    )
