"""Plans and submits sweeps."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, cast

import anyio.to_thread
from pydantic import Field

from flows.core import names
from flows.core.budget.amounts import Limits
from flows.core.budget.whole import with_whole_limits
from flows.core.configs.overrides import check_overrides
from flows.core.configs.plan import OUTPUT_KEY, WRITES_A_FILE
from flows.core.configs.reader import ConfigKind
from flows.core.errors import InvalidArgument, InvalidConfig
from flows.core.models import NotifyOn, Value
from flows.core.private_envs import is_reference
from flows.core.sweeps.search import Tried, in_order, values_of
from flows.core.sweeps.spec import Range, Scalar, Search, Sweep, Values
from flows.core.sweeps.written import WrittenSweep, read_sweep
from mcp_server.declared_arguments import Argument, Option
from mcp_server.prefect_api.gateway import PrefectGateway
from mcp_server.prefect_api.models import FlowRun
from mcp_server.services.families.metric_checks import check_goal
from mcp_server.services.families.pipeline_checks import as_texts, new_job
from mcp_server.services.families.submissions import (
    FamilySubmission,
    Folder,
    Receiver,
    ReportedEnds,
    read_yaml,
    submit_parent,
)
from mcp_server.services.jobs.new_job import NewJob
from mcp_server.services.jobs.notifications import Notifications, check_receiver
from mcp_server.services.jobs.plan_warnings import warnings_of_plan
from mcp_server.services.jobs.private_jobs import carry_tokens, hide_secrets
from mcp_server.services.jobs.status import run_url
from mcp_server.services.jobs.submitting import (
    CheckedJob,
    check_job,
    keep_config,
    refuse_blocked,
    refuse_secret,
)

_ENVS: Final = "envs."
_SHOWN: Final = 10


class NewSweep(Value):
    """A sweep as a person requests it, unchecked; without `notify` its job's applies."""

    client_cwd: Folder
    sweep_path: Annotated[
        str,
        Argument(
            "YAML file; or give sweep.",
            Option("Sweep (YAML).", metavar="FILE", positional=True),
            max_length=4096,
        ),
    ] = ""
    sweep: Annotated[
        dict[str, Any],
        Argument(
            "run_oumi_job's arguments, and space (dotted key: list or {low, high, "
            "step, log}; or a list of combinations), metric, direction (minimize, maximize), "
            "search (grid, random, optuna), trials, concurrency, seed, early_stopping "
            "{after_trials, after_steps}; max_cost, max_jobs of all.",
            max_length=50,
        ),
    ] = Field(default_factory=dict[str, Any])
    notify: Receiver = None
    notify_on: ReportedEnds = NotifyOn.END


class SweepSubmission(FamilySubmission):
    """A sweep that was started, or would be."""

    trials: int
    first_values: list[dict[str, Any]] = Field(description="Values of the first trials.")


class SweepService:
    """Sweeps: plan and start them.

    Args:
        gateway: Prefect's API.
        snapshots_dir: Where configs are kept as submitted.
    """

    def __init__(self, gateway: PrefectGateway, *, snapshots_dir: Path) -> None:
        self._gateway = gateway
        self._snapshots_dir = snapshots_dir
        self._notifications = Notifications(gateway)

    async def plan(self, new: NewSweep) -> SweepSubmission:
        """Check the job and its values and return what `submit` would try; start nothing."""
        sweep, job, _ = await anyio.to_thread.run_sync(_check, new)
        warnings = warnings_of_plan({"": job})
        return _answer(sweep, None, url=None).model_copy(update={"warnings": warnings})

    async def submit(self, new: NewSweep, *, idempotency_key: str | None = None) -> SweepSubmission:
        """Start a sweep; it is durable when this returns.

        Args:
            new: The sweep.
            idempotency_key: The same key returns the same sweep.

        Raises:
            OumiFlowsError: It cannot be run; nothing was started.
        """
        sweep, job, receiver = await anyio.to_thread.run_sync(_check, new)
        kept = await anyio.to_thread.run_sync(keep_config, job, self._snapshots_dir)
        request = sweep.request.model_copy(update={"config_sha256": kept.config_sha256})
        sweep = sweep.model_copy(update={"request": request})
        run = await submit_parent(
            self._gateway,
            flow=names.SWEEP_FLOW,
            command=names.SWEEP_COMMAND,
            name=sweep.name,
            parameters={"sweep": sweep.model_dump(mode="json")},
            tags=await self._notifications.tags(receiver.notify, receiver.notify_on),
            idempotency_key=idempotency_key,
        )
        return _answer(sweep, run, url=run_url(await self._gateway.ui_url(), run.id))


def _check(new: NewSweep) -> tuple[Sweep, CheckedJob, NewSweep | NewJob]:
    """Read and check the sweep and its job; the third value has the `notify` that applies."""
    if new.notify is not None:
        check_receiver(new.notify)
    if bool(new.sweep_path) == bool(new.sweep):
        raise InvalidArgument("a sweep is a file or given inline", "Give sweep_path or sweep")
    path, data = "", new.sweep
    if new.sweep_path:
        path, data = read_yaml(new.sweep_path, new.client_cwd, "sweep")
    written = read_sweep(data, name=Path(path).stem if path else names.SWEEP_COMMAND)
    written = _with_private_space(written)
    arguments = dict(written.job)
    if isinstance(envs := arguments.get("envs"), Mapping):
        arguments["envs"] = hide_secrets(as_texts(cast("Mapping[object, object]", envs)))
    asked = new_job(arguments, client_cwd=new.client_cwd)
    job = carry_tokens(check_job(asked))
    refuse_blocked(job)
    sweep = _sweep(written, job, path)
    _check_space(sweep, job)
    first = _check_first(sweep, arguments, new.client_cwd)
    goal = check_goal(sweep, first)
    refuse_blocked(job._replace(findings=goal))
    job = job._replace(findings=[*goal, *job.findings])
    return sweep, job, asked if new.notify is None else new


def _with_private_space(written: WrittenSweep) -> WrittenSweep:
    """Put references in the places of secrets among the swept variables."""

    def hide(key: str, values: list[Scalar]) -> list[Scalar]:
        name = key.removeprefix(_ENVS)
        if name == key:
            return values
        return [hide_secrets({name: v})[name] if isinstance(v, str) else v for v in values]

    space = {k: v if isinstance(v, Range) else hide(k, v) for k, v in written.space.items()}
    points = [{k: hide(k, [v])[0] for k, v in point.items()} for point in written.points]
    return written.model_copy(update={"space": space, "points": points})


def _sweep(written: WrittenSweep, job: CheckedJob, path: str) -> Sweep:
    limits = Limits(cost=written.max_cost, gpu_hours=written.max_gpu_hours, jobs=written.max_jobs)
    request, plan = with_whole_limits(job.request, limits), job.plan
    key, folder, name = "", "", ""
    if plan.kind is ConfigKind.COMMAND:
        key = OUTPUT_KEY[request.command]
        output = plan.files.get("output")
        folder = plan.output_dir or request.client_cwd
        if request.command in WRITES_A_FILE:
            name = Path(output).name if output else "output.jsonl"
        if key in written.space:
            key = ""  # the sweep chooses the folders itself
    return Sweep(
        name=written.name,
        path=path,
        request=request,
        output_key=key,
        output_dir=folder,
        output_name=name,
        space=written.space,
        points=written.points,
        search=written.method,
        metric=written.metric,
        direction=written.direction,
        trials=written.count,
        concurrency=written.concurrency,
        seed=written.seed,
        early_stopping=written.early_stopping,
    )


def _check_space(sweep: Sweep, job: CheckedJob) -> None:
    """Check the key of every override that is swept, and every value it can have."""
    for key, one in sweep.space.items():
        for value in () if isinstance(one, Range) else one:
            if not (isinstance(value, str) and is_reference(value)):
                refuse_secret(f"space {key}", key, value)
        if key.startswith(_ENVS):
            continue
        if job.plan.kind is ConfigKind.JOB:
            raise InvalidConfig(
                f"Sweep {sweep.name}: {key} is an override, which a job config does not take",
                "Sweep environment variables, as envs.LEARNING_RATE, and read them in its script",
            )
        for value in (one.low, one.high) if isinstance(one, Range) else one:
            check_overrides({key: value}, sweep.request.command)


def _check_first(sweep: Sweep, arguments: dict[str, Any], client_cwd: str) -> CheckedJob:
    """Check the whole job with the values that are tried first."""
    values = _first_values(sweep, 1)[0]
    overrides = {key: one for key, one in values.items() if not key.startswith(_ENVS)}
    given: dict[str, Any] = {**arguments.get("overrides", {}), **overrides}
    return check_job(new_job({**arguments, "overrides": given}, client_cwd=client_cwd))


def _first_values(sweep: Sweep, count: int) -> list[Values]:
    if sweep.search is Search.GRID:
        return in_order(sweep)[:count]
    if sweep.search is Search.RANDOM:
        nothing: list[Tried] = []
        return [values_of(sweep, number, nothing) for number in range(min(count, sweep.trials))]
    # Optuna runs on the worker; its first trial may have any values of the space.
    return [
        {key: one.low if isinstance(one, Range) else one[0] for key, one in sweep.space.items()}
    ]


def _answer(sweep: Sweep, run: FlowRun | None, *, url: str | None) -> SweepSubmission:
    what = f"{sweep.trials} trials by {sweep.search}, {sweep.concurrency} at once"
    aim = f"to {sweep.direction} {sweep.metric}"
    if run:
        summary = f"{run.name} is {run.state.job_state}, {what} {aim}; job_id {run.id}."
    else:
        summary = f"Dry run, nothing was started: {what} {aim}."
    return SweepSubmission(
        summary=summary,
        job_id=run.id if run else None,
        name=run.name if run else sweep.name,
        state=run.state.job_state if run else None,
        dry_run=run is None,
        trials=sweep.trials,
        first_values=[] if sweep.search is Search.OPTUNA else _first_values(sweep, _SHOWN),
        url=url,
    )
