"""Checks a new job and makes the request that runs it."""

from pathlib import Path
from typing import Any, Final, NamedTuple, cast

from flows.core import names
from flows.core.budget.whole import describe_limits
from flows.core.checks.file_checks import check_request
from flows.core.configs.checks import parse_command
from flows.core.configs.clouds import is_local, kind_of, known_cloud
from flows.core.configs.plan import JobPlan, make_plan, with_own_output, with_plain_paths
from flows.core.configs.prices import hourly_price
from flows.core.configs.processes import ALL
from flows.core.configs.reader import (
    ConfigFile,
    ConfigKind,
    find_client_folder,
    read_config,
    resolve_config_path,
    save_snapshot,
)
from flows.core.configs.schema import CONFIG_TYPE
from flows.core.configs.yaml_text import dump_yaml, parse_yaml
from flows.core.errors import InternalError, InvalidArgument, PreflightBlocked
from flows.core.file_names import expand_home
from flows.core.findings import Finding, errors_of, list_errors
from flows.core.models import JobRequest
from flows.core.names import LOCAL_CLOUD
from flows.core.private_envs import is_reference
from flows.core.redaction import (
    Redactor,
    config_secrets,
    hide_tokens,
    is_secret_override,
    own_redactor,
    own_secrets,
    ways_of_writing,
)
from flows.core.secret_marks import keep_marks
from mcp_server.prefect_api.models import FlowRun
from mcp_server.services.jobs.new_job import NewJob
from mcp_server.services.jobs.notifications import check_receiver
from mcp_server.services.jobs.plan_warnings import found_in, warnings_of_plan
from mcp_server.services.jobs.reruns import Requested
from mcp_server.services.jobs.results import Submission
from mcp_server.services.jobs.status import job_name
from mcp_server.services.jobs.syncing import SyncPreview, preview

ANY_FIRING: Final = "<time>-<id>"
"""Placeholder for `names.firing` of a run that does not exist yet."""

_CONFIG_LIMIT: Final = 4000
_ARGUMENTS: Final = 20
_NAME_LIMIT: Final = 100


class CheckedJob(NamedTuple):
    """A job that can be submitted."""

    request: JobRequest
    plan: JobPlan
    config: ConfigFile
    findings: list[Finding]
    """Findings of pre-flight in the files; the worker checks the rest."""

    @property
    def command(self) -> str:
        """The command, for people; a job config's scripts have a word of their own."""
        return names.JOB_COMMAND if self.plan.kind is ConfigKind.JOB else self.request.command

    def run_name(self, run_id: str) -> str:
        """The name of the job's flow run."""
        words = self.request.job_name
        if self.plan.kind is ConfigKind.JOB:
            words = words or self.plan.name  # its command is ignored and names nothing
        model = hide_tokens(self.plan.model_name)[-_NAME_LIMIT:]
        return names.run_name(run_id, command=self.request.command, model=model, job_name=words)


def config_path_of(new: NewJob) -> Path:
    """The file of a job's config, which may be in Oumi's library.

    Raises:
        InvalidArgument: An argument is no path, or no command.
        ConfigNotFound: There is no such file.
    """
    if not new.config_path:
        raise InvalidArgument("no config was given", "Give config_path or from_job")
    config_type = CONFIG_TYPE[parse_command(new.command)]
    return resolve_config_path(new.config_path, new.client_cwd, config_type)


def check_job(new: NewJob, config: ConfigFile | None = None) -> CheckedJob:
    """Read the config and make every check of the job that this machine can.

    Args:
        new: The job.
        config: Its config, if that is the copy of another job's.

    Raises:
        InvalidArgument: An argument cannot be used.
        ConfigNotFound: The config does not exist or cannot be read.
        InvalidConfig: The config cannot be run.
        Conflict: The arguments and the config contradict each other.
        CloudUnavailable: Oumi knows no such cloud.
    """
    if new.notify is not None:
        check_receiver(new.notify)
    if config is None:
        config = read_config(config_path_of(new))
        path = config.path
    else:
        path = Path(new.config_path)
        find_client_folder(new.client_cwd)
    given = new.model_dump(include=set(JobRequest.model_fields))
    request = JobRequest.model_validate(
        given
        | {
            "config_path": str(path),
            "client_cwd": str(expand_home(new.client_cwd)),
            "command": parse_command(new.command),
            "cloud": known_cloud(new.cloud) or LOCAL_CLOUD,
            "job_name": printable_name(new.job_name),
            "retry_on": sorted(set(new.retry_on)),
        }
    )
    _refuse_secrets(request)
    if request.autostop_minutes is not None and not kind_of(request.cloud).keeps_clusters:
        raise InvalidArgument(
            f"Clusters on {request.cloud} do not stop themselves", "Leave autostop_minutes out"
        )
    if request.max_cost is not None and not kind_of(request.cloud).is_sky:
        raise InvalidArgument(
            f"No price is known for jobs on {request.cloud}, so max_cost cannot limit one",
            "Give max_gpu_hours: a job without GPUs counts its hours",
        )
    if new.own_output and config.kind is ConfigKind.JOB:
        raise InvalidArgument(
            f"{path} is a job config, whose script says where it writes", "Leave own_output out"
        )
    plan = make_plan(
        with_own_output(request, config, ANY_FIRING) if new.own_output else request, config
    )
    # Fix the paths here, so that the worker's own environment cannot change them.
    request = with_plain_paths(request, config)
    _refuse_secrets(request)
    if not is_local(plan.cloud) and not plan.is_own_cluster:
        # Fix the name here, so that the worker's own environment cannot change it.
        request = request.model_copy(update={"cluster_name": plan.cluster_name})
    findings = [] if new.skip_preflight else check_request(request, config)
    return CheckedJob(request, plan, config, findings)


def refuse_blocked(job: CheckedJob) -> None:
    """Refuse a job whose files show that it would fail.

    Raises:
        PreflightBlocked: With what was found.
    """
    errors = errors_of(job.findings)
    if errors:
        raise PreflightBlocked(
            f"Pre-flight found what would make the job fail: {list_errors(errors)}",
            "Fix it, or set skip_preflight to start without the checks",
        )


def keep_config(job: CheckedJob, snapshots_dir: Path) -> JobRequest:
    """Copy the config, and return the request that names the copy.

    The secrets of this process get marks beside the copies, so that a worker that does not have
    them hides them in what the job prints.

    Raises:
        InternalError: The copy cannot be written.
    """
    try:
        sha256 = save_snapshot(job.config.text, snapshots_dir)
        keep_marks(ways_of_writing(own_secrets()), snapshots_dir.parent)
    except OSError as error:
        raise InternalError(
            f"The config cannot be kept in {snapshots_dir} ({error.strerror})",
            "Free space on that disk, or set OUMI_FLOWS_HOME to a folder that can be written",
        ) from error
    return job.request.model_copy(update={"config_sha256": sha256})


def describe_submission(checked: CheckedJob, run: FlowRun, *, url: str | None) -> Submission:
    """Describe a job that was submitted as `run`."""
    name = job_name(run, checked.request)
    return _answer(checked, name).model_copy(
        update={
            "summary": f"{name} is {run.state.job_state}; job_id {run.id}.",
            "job_id": run.id,
            "state": run.state.job_state,
            "dry_run": False,
            "cluster_name": _cluster_name(checked, run),
            "output_dir": output_dir(checked, run),
            "url": url,
        }
    )


def with_notes(answer: Submission, asked: Requested) -> Submission:
    """Add what a person must know of the source of a job to its description."""
    if asked.source is None or not asked.source.notes:
        return answer
    notes = asked.source.notes
    return answer.model_copy(
        update={
            "summary": " ".join([answer.summary, *notes]),
            "warnings": [*notes, *answer.warnings],
        }
    )


def describe_plan(checked: CheckedJob) -> Submission:
    """Describe a job that was only planned."""
    plan = _plan_to_show(checked.plan)
    command = " ".join(plan.argv) or f"the commands of {checked.request.config_path}"
    summary = f"Dry run, nothing was started: {shorten(command)}, in {plan.working_dir}"
    warnings = warnings_of_plan({"": checked})
    answer = _answer(checked, plan.name).model_copy(update={"plan": plan, "warnings": warnings})
    if is_local(plan.cloud):
        limit = describe_limits(checked.request, None)
        return answer.model_copy(update={"summary": f"{summary}{_describe_size(plan)}{limit}."})
    config = cast("dict[str, Any]", parse_yaml(checked.plan.job_config, "the job config"))
    sync = preview(config, kind=kind_of(plan.cloud))
    price = hourly_price(config)
    facts = [
        summary,
        f"on {plan.cloud}, cluster {plan.cluster_name}",
        _describe_copy(sync),
        "hourly price unknown" if price is None else f"${price:g} an hour",
    ]
    return answer.model_copy(
        update={
            "summary": "; ".join(facts) + f"{describe_limits(checked.request, price)}.",
            "sync": sync,
            "hourly_price": price,
        }
    )


def _describe_size(plan: JobPlan) -> str:
    """Describe the processes and the batch of a training, and the GPUs it is written for."""
    facts: list[str] = []
    if plan.gpus is not None:
        gpus = "all GPUs" if plan.gpus == ALL else f"{plan.gpus} GPU{'s' * (plan.gpus != 1)}"
        facts.append(f"{_count(plan.processes)} on {gpus} of the machine")
    elif plan.effective_batch_size is not None:
        facts.append(_count(plan.processes))
    if plan.effective_batch_size is not None:
        facts.append(f"effective batch {plan.effective_batch_size}")
    meant = plan.written_for_gpus or 1
    if meant > 1 and plan.gpus not in (ALL, meant):
        facts.append(f"the config is written for {meant} GPUs, which gpus={meant} gives it")
    return "".join(f"; {fact}" for fact in facts)


def _count(processes: int | None) -> str:
    if processes is None:
        return "a process a GPU"
    return f"{processes} process{'es' * (processes != 1)}"


def _describe_copy(sync: SyncPreview | None) -> str:
    if sync is None or sync.files is None or sync.bytes is None:
        return "files to copy not counted"
    text = f"{sync.files:,} files of {sync.bytes / 1e6:,.3g} MB are copied"
    if sync.left_out_but_used:
        text += f", but not {', '.join(sync.left_out_but_used[:3])}, which it uses"
    return text


def _answer(checked: CheckedJob, name: str) -> Submission:
    request, plan = checked.request, checked.plan
    return Submission(
        summary="",
        name=name,
        dry_run=True,
        command=checked.command,
        config_path=request.config_path,
        cloud=plan.cloud,
        cluster_name=plan.cluster_name,
        model_name=shorten(hide_tokens(plan.model_name)),
        output_dir=plan.output_dir or "",
        warnings=found_in(checked),
    )


def output_dir(checked: CheckedJob, run: FlowRun) -> str:
    """Return the output folder of the job of `run`."""
    folder = checked.plan.output_dir or ""
    own = checked.request.own_output
    return (
        folder.replace(ANY_FIRING, names.firing(run.id, run.expected_start_time)) if own else folder
    )


def _cluster_name(checked: CheckedJob, run: FlowRun) -> str:
    own = names.own_cluster(run.id)
    return own if checked.plan.is_own_cluster else checked.plan.cluster_name


def shorten(text: str, *, limit: int = 300) -> str:
    """Return `text`, or its beginning and how much was cut."""
    if len(text) <= limit:
        return text
    return f"{text[:limit]} ... ({len(text) - limit} more characters were cut)"


def printable_name(name: str | None) -> str:
    """Strip a name for people, and check it.

    Raises:
        InvalidArgument: It is not one printable line.
    """
    name = (name or "").strip()
    if not name.isprintable():
        raise InvalidArgument(
            "job_name contains a line break or another character that cannot be printed",
            "Use a name of one printable line",
        )
    return name


def _refuse_secrets(request: JobRequest) -> None:
    for key, value in request.overrides.items():
        refuse_secret(f"override {key}", key, value)
    given = {key: value for key, value in request.envs.items() if not is_reference(value)}
    for key, value in given.items():
        refuse_secret(f"envs {key}", key, value)
    refuse_secret("job_name", "", request.job_name)
    refuse_secret("cluster_name", "", request.cluster_name)


def refuse_secret(what: str, key: str, value: object) -> None:
    """Refuse a value that the Prefect UI must not show.

    Args:
        what: The argument, for people.
        key: The key of the value; empty: no meaningful one.
        value: The value.

    Raises:
        InvalidArgument: It holds a secret.
    """
    if is_secret_override(key, value) or own_redactor().data(value) != value:
        raise InvalidArgument(
            f"{what} holds a secret, and Prefect shows it",
            "Put the secret into the config file, or into the worker's environment",
        )


def _plan_to_show(plan: JobPlan) -> JobPlan:
    """Hide secrets in the plan, and shorten it for an answer, marking each cut."""
    config = cast("dict[str, Any]", parse_yaml(plan.job_config, "the job config"))
    redactor = Redactor([*own_secrets(), *config_secrets(config)])
    job_config = shorten(dump_yaml(redactor.config(config)), limit=_CONFIG_LIMIT)
    argv = [shorten(argument) for argument in redactor.arguments(plan.argv)]
    if len(argv) > _ARGUMENTS:
        argv = [*argv[:_ARGUMENTS], f"... ({len(argv) - _ARGUMENTS} more arguments were cut)"]
    model_name = shorten(redactor.text(plan.model_name))
    return plan.model_copy(
        update={"job_config": job_config, "argv": argv, "model_name": model_name}
    )
