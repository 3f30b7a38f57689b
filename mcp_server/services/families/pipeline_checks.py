"""Checks a pipeline as written, and makes one that can run."""

import os
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple, cast
from uuid import UUID

from pydantic import ValidationError

from flows.core.budget.whole import with_whole_limits
from flows.core.configs.output_paths import PATH_KEYS, write_out
from flows.core.errors import InvalidArgument, InvalidConfig, OumiFlowsError
from flows.core.findings import FindingCode
from flows.core.models import JobRequest, NotifyOn, OverrideValue
from flows.core.pipelines.references import Lookup, references_in, substitute, substitute_text
from flows.core.pipelines.results import PartResult, lookup_for
from flows.core.pipelines.spec import Part, Pipeline
from flows.core.pipelines.written import WrittenPart, WrittenPipeline, WrittenStep
from flows.core.redaction import own_redactor
from flows.core.states import JobState
from mcp_server.services.families.metric_checks import check_references
from mcp_server.services.jobs.new_job import NewJob
from mcp_server.services.jobs.private_jobs import carry_tokens, hide_secrets
from mcp_server.services.jobs.submitting import (
    CheckedJob,
    check_job,
    keep_config,
    refuse_blocked,
)

_REFERRING = ("overrides", "envs")
_TEXTS = ("config_path", "job_name", "cluster_name")
"""Arguments that are texts, even if an item of `each` gives a number."""
_STEP_KEYS = sorted(WrittenStep.model_fields.keys() - {"job"})


class CheckedPart(NamedTuple):
    """A part whose job passed the checks that are possible before its needs have run."""

    part: Part
    job: CheckedJob
    notify: str | None = None
    notify_on: NotifyOn = NotifyOn.END


class CheckedPipeline(NamedTuple):
    """A pipeline that can be submitted."""

    name: str
    path: str
    client_cwd: str
    parts: list[CheckedPart]

    @property
    def jobs(self) -> dict[str, CheckedJob]:
        """Its jobs by the names of their parts."""
        return {one.part.name: one.job for one in self.parts}


def check_pipeline(written: WrittenPipeline, *, path: str, client_cwd: str) -> CheckedPipeline:
    """Check every job of a pipeline, with the expected results of the jobs before it.

    Raises:
        OumiFlowsError: A step cannot be run; the message says which.
    """
    results: dict[str, PartResult] = {}
    outputs: dict[str, list[str]] = {}
    behind: dict[str, set[str]] = {}
    parts: list[CheckedPart] = []
    for one in written.parts():
        with _of_step(one.name):
            checked = _check(one, written.name, client_cwd, results)
            checked = _with_metrics_checked(one, checked, parts)
            request = with_whole_limits(checked.part.request, written.limits)
            checked = checked._replace(part=checked.part.model_copy(update={"request": request}))
            if not one.after:  # jobs before it may make the missing files
                refuse_blocked(checked.job)
            parts.append(checked)
            results[one.name] = _expected_result(checked, len(results))
            behind[one.name] = {*one.after, *(far for near in one.after for far in behind[near])}
            output = checked.job.plan.files.get("output") or checked.part.output_dir
            if not output:
                continue
            sharing = outputs.setdefault(output, [])
            if at_once := [other for other in sharing if other not in behind[one.name]]:
                raise InvalidConfig(
                    f"it writes to {output} as {at_once[0]} does, which may run at the same time",
                    "Give each its own folder, with ${index} or ${item} in it where a step has "
                    "`each`, or let one need the other",
                )
            sharing.append(one.name)
    return CheckedPipeline(written.name, path, client_cwd, parts)


def keep_pipeline(
    checked: CheckedPipeline, snapshots_dir: Path, tags: Mapping[str, list[str]]
) -> Pipeline:
    """Copy the configs, and return the pipeline that names the copies.

    Args:
        checked: The pipeline.
        snapshots_dir: Where configs are kept as submitted.
        tags: Tags that notify of each part's end, by the part's name.
    """
    parts: list[Part] = []
    for part, job, *_ in checked.parts:
        kept = keep_config(job, snapshots_dir)
        request = part.request.model_copy(update={"config_sha256": kept.config_sha256})
        update = {"request": request, "tags": tags.get(part.name, [])}
        parts.append(part.model_copy(update=update))
    return Pipeline(
        name=checked.name, path=checked.path, client_cwd=checked.client_cwd, parts=parts
    )


def refuse_shared(checked: CheckedPart) -> None:
    """Refuse a part whose folder a live job writes to.

    Raises:
        PreflightBlocked: With the step and that job.
    """
    with _of_step(checked.part.name):
        in_use = [one for one in checked.job.findings if one.code is FindingCode.OUTPUT_IN_USE]
        refuse_blocked(checked.job._replace(findings=in_use))


def new_job(arguments: Mapping[str, Any], *, client_cwd: str) -> NewJob:
    """Make the job that these arguments describe.

    Raises:
        InvalidArgument: One of them is unknown, missing or of the wrong type.
    """
    if "from_job" in arguments:
        raise InvalidArgument("from_job is for a job alone", "Give its config_path")
    if not arguments.get("config_path"):
        raise InvalidArgument("config_path: Field required", "Correct it")
    try:
        return NewJob.model_validate({**arguments, "client_cwd": client_cwd})
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        key = ".".join(str(part) for part in first["loc"][:2])
        if first["type"] == "extra_forbidden":
            known = [*NewJob.model_fields.keys() - {"client_cwd", "from_job"}, *_STEP_KEYS]
            close = get_close_matches(key, known, n=1)
            hint = f"Did you mean {close[0]}?" if close else f"Use {', '.join(sorted(known))}"
            raise InvalidArgument(f"there is no key {key!r}", hint) from error
        raise InvalidArgument(f"{key}: {first['msg']}", "Correct it") from error


def as_texts(envs: Mapping[object, object]) -> dict[str, str]:
    """Turn values of environment variables into texts; YAML reads 5 or true as other types."""
    return {str(key): _as_text(value) for key, value in envs.items()}


def _as_text(value: object) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else str(value).lower()


def _check(
    one: WrittenPart, pipeline: str, client_cwd: str, results: Mapping[str, PartResult]
) -> CheckedPart:
    asked = {"job_name": f"{pipeline}-{one.name}", **one.job}
    if isinstance(envs := asked.get("envs"), Mapping):
        asked["envs"] = _hide_whole(as_texts(cast("Mapping[object, object]", envs)))
    numbers = {key: asked[key] for key in _TEXTS if isinstance(asked.get(key), int | float)}
    asked |= {key: str(value) for key, value in numbers.items()}
    for key, value in {**asked, "output_dir": one.output_dir}.items():
        if key not in _REFERRING and (found := references_in(value)):
            raise InvalidConfig(
                f"{key} refers to {found[0]}, which is known only when that step has ended",
                "Refer to other steps in overrides and envs",
            )
    lookup = lookup_for(one, results)
    filled = {key: _fill_in(value, lookup) for key, value in asked.items()}
    if isinstance(envs := asked.get("envs"), Mapping):
        texts = cast("Mapping[str, str]", envs).items()
        filled["envs"] = {key: substitute_text(value, lookup) for key, value in texts}
    new = new_job(filled, client_cwd=client_cwd)
    job = carry_tokens(check_job(new))
    return CheckedPart(_part(one, asked, job), job, new.notify, new.notify_on)


def _with_metrics_checked(
    one: WrittenPart, checked: CheckedPart, before: list[CheckedPart]
) -> CheckedPart:
    """Check that the parts before leave the metrics that a part refers to."""
    jobs = {part.part.name: part.job for part in before}
    found = check_references(one.step.references, one.meant, jobs)
    refuse_blocked(checked.job._replace(findings=found))
    return checked._replace(job=checked.job._replace(findings=[*found, *checked.job.findings]))


def _hide_whole(envs: Mapping[str, str]) -> dict[str, str]:
    """Put references to private files in the places of secrets.

    A value with a reference to another step is known later, so it stays, and `check_job` refuses
    one that holds a secret.
    """
    whole = {key: text for key, text in envs.items() if not references_in(text)}
    plain = {key: text.replace("$${", "${") for key, text in whole.items()}
    hidden = {key: text for key, text in hide_secrets(plain).items() if text != plain[key]}
    return {**envs, **hidden}


def _fill_in(value: object, lookup: Lookup) -> object:
    if isinstance(value, Mapping):
        items = cast("Mapping[str, OverrideValue]", value).items()
        return {key: substitute(one, lookup) for key, one in items}
    return value


def _part(one: WrittenPart, asked: Mapping[str, Any], job: CheckedJob) -> Part:
    """Make the part with its checked job, keeping its references."""
    output_dir = one.output_dir
    if output_dir and job.plan.output_dir:
        raise InvalidConfig(
            f"output_dir {output_dir!r} is for job configs; this job's config says where it writes",
            "Leave output_dir out, or override the config's key",
        )
    referring = {key: asked[key] for key in _REFERRING if key in asked}
    referring["envs"] = job.request.envs | referring.get("envs", {})
    if "overrides" in referring:
        given: dict[str, OverrideValue] = dict(asked["overrides"])
        # A path that is known already stays as the check wrote it out.
        paths = {
            k: v for k, v in job.request.overrides.items() if k in PATH_KEYS[job.request.command]
        }
        referring["overrides"] = given | {
            k: v for k, v in paths.items() if not references_in(given.get(k))
        }
    request: JobRequest = job.request.model_copy(update=referring)
    return Part(
        name=one.name,
        step=one.step.name,
        request=request,
        after=one.after,
        meant=one.meant,
        when=one.step.condition,
        item=own_redactor().config(one.item),  # envs have references to its secrets
        index=one.index,
        output_dir=_absolute(output_dir, job.request) if output_dir else "",
        may_fail=one.step.may_fail,
    )


def _expected_result(checked: CheckedPart, number: int) -> PartResult:
    """Guess the part's result: what is known of it, and a sample value for the rest."""
    part, plan = checked.part, checked.job.plan
    return PartResult(
        state=JobState.SUCCEEDED,
        job_id=str(UUID(int=number)),
        output_dir=part.output_dir or plan.output_dir or "",
        model_name=plan.model_name,
        log_path="log.txt",
        metrics=_AnyMetric(),
    )


def _absolute(path: str, request: JobRequest) -> str:
    full = write_out(path, {**os.environ, **request.envs}, key="output_dir")
    return os.path.normpath(Path(request.client_cwd, full))


class _AnyMetric(Mapping[str, float]):
    """Has every metric, with a value that is an integer and a number."""

    def __getitem__(self, key: str) -> float:
        return 1

    def __contains__(self, key: object) -> bool:
        return True

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


@contextmanager
def _of_step(name: str) -> Generator[None]:
    """Name the step in every error."""
    try:
        yield
    except OumiFlowsError as error:
        raise type(error)(f"Step {name}: {error.what}", error.next_step) from error
