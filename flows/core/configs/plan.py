"""Plan what a job runs, from its request and its config, without starting it."""

import os
import shlex
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Final, cast

from pydantic import Field

from flows.core.configs.arguments import command_line
from flows.core.configs.checks import MISSING, check_config
from flows.core.configs.clouds import is_local, kind_of
from flows.core.configs.clusters import CONNECTIONS_ENV, JobPlace, place_of
from flows.core.configs.job_folders import absolute_path, find_mount_source, find_working_dir
from flows.core.configs.output_paths import written_out
from flows.core.configs.overrides import apply_overrides, check_overrides
from flows.core.configs.processes import (
    ALL,
    BATCH,
    Processes,
    check_gpus,
    count_processes,
    effective_batch,
    gpu_envs,
    gpus_of_job_beside,
    gpus_requested,
    gpus_written_for,
    in_processes,
)
from flows.core.configs.reader import ConfigFile, ConfigKind
from flows.core.configs.schema import CONFIG_TYPE, JUDGE_OPTIONS, fields_of, root_spec
from flows.core.configs.yaml_text import check_oumi_reads, dump_yaml
from flows.core.errors import Conflict, InvalidArgument, InvalidConfig
from flows.core.models import Command, GpuCount, JobRequest, OverrideValue, Value
from flows.core.names import DEVICES_ENV, LOCAL_CLOUD, LOCAL_CLUSTER, slug

RESUME_KEY: Final = "training.resume_from_checkpoint"
TRY_RESUME_KEY: Final = "training.try_resume_from_last_checkpoint"
OUTPUT_KEY: Final = {
    Command.TRAIN: "training.output_dir",
    Command.TUNE: "tuning.output_dir",
    Command.EVALUATE: "output_dir",
    Command.ANALYZE: "output_path",
    Command.QUANTIZE: "output_path",
    Command.INFER: "output_path",
    Command.SYNTH: "output_path",
    Command.JUDGE: "output_path",
}
WRITES_A_FILE: Final = frozenset({Command.INFER, Command.SYNTH, Command.JUDGE})
_MODEL_KEY: Final = {
    Command.SYNTH: "inference_config.model.model_name",
    Command.JUDGE: "inference_config.model.model_name",
}
_ENVS: Final = {
    # Without it Oumi's metric lines arrive in one burst when the process exits.
    "PYTHONUNBUFFERED": "1",
    # Rich folds lines at 80 columns where there is no terminal.
    "COLUMNS": "400",
}


_UNKNOWN_ID: Final = "<job id>"
"""Placeholder for the id of a job that is only planned."""


class JobPlan(Value):
    """What a job runs, and where."""

    kind: ConfigKind
    name: str = Field(description="The job's name for the launcher: the request's, or derived.")
    cloud: str
    cluster_name: str
    is_own_cluster: bool = Field(
        default=False, description="The cluster is created for this job alone."
    )
    argv: list[str] = Field(description="The command; empty for a job config, which has scripts.")
    job_config: str = Field(description="The whole Oumi job config that is launched, as YAML.")
    working_dir: str = Field(description="Folder the job runs in, or that is copied to it.")
    output_dir: str | None = Field(default=None, description="Absolute folder of the results.")
    model_name: str = ""
    gpus: GpuCount | None = Field(
        default=None, description="GPUs of this machine that it asks for; null: one share."
    )
    processes: int | None = Field(default=None, description="Null: one a GPU of the machine.")
    effective_batch_size: int | None = Field(
        default=None, description="Per-device batch x accumulation x processes."
    )
    written_for_gpus: int | None = Field(
        default=None, description="GPUs that the config, or the job config beside it, names."
    )
    files: dict[str, str] = Field(
        default_factory=dict[str, str], description="Where things are read from and written to."
    )


def make_plan(
    request: JobRequest,
    config: ConfigFile,
    *,
    job_id: str = _UNKNOWN_ID,
) -> JobPlan:
    """Plan what a request runs; the same request and config always give the same plan.

    Args:
        request: The submitted job.
        config: Its config. The plan runs the file at ``config.path``, so give the copy from the
            submission to run the config as submitted.
        job_id: The job's id, for the name of its own cluster.

    Raises:
        InvalidArgument: The overrides or the cloud do not fit this config.
        InvalidConfig: The config cannot be run.
        Conflict: The request and the job config name different clouds, or different users.
        CloudUnavailable: Oumi has no such cloud.
    """
    kind_of(request.cloud)
    check_gpus(request)
    if config.kind is ConfigKind.JOB:
        return _plan_job_config(request, config, job_id)
    return _plan_command(request, config)


def output_folder(request: JobRequest, config: ConfigFile) -> Path | None:
    """Find the absolute folder that a command writes to; None: its config names none.

    Raises:
        InvalidArgument: The overrides do not fit this config.
        InvalidConfig: The path cannot be written out.
    """
    command = request.command
    overrides = request.overrides | _paths(config, command, request.overrides, request.envs)
    data = apply_overrides(config.data, overrides, command)
    output = _output(data, request)
    return output.parent if output and command in WRITES_A_FILE else output


def _output(data: Mapping[str, Any], request: JobRequest) -> Path | None:
    """The absolute file or folder that a command writes, by its config with all overrides."""
    path = str(lookup(data, request.command, OUTPUT_KEY[request.command]) or "")
    return absolute_path(path, request.client_cwd) if path else None


def _plan_command(request: JobRequest, config: ConfigFile) -> JobPlan:
    command = request.command
    if not is_local(request.cloud):
        raise InvalidArgument(
            f"{request.config_path} is a {command} config and runs on this machine alone, "
            f"not on cloud {request.cloud!r}",
            "Write a job config that runs it there, as guidance://cloud-launch shows; "
            "pre_flight_check with this cloud lists what it needs",
        )
    overrides = dict(request.overrides)
    check_overrides(overrides, command)
    if command is not Command.ANALYZE:
        check_oumi_reads(config.text, request.config_path)
    overrides |= _paths(config, command, overrides, request.envs)
    data = apply_overrides(config.data, overrides, command)
    check_config(data, command, name=request.config_path)
    if command is Command.JUDGE:
        _check_judge(config.data, overrides, request.config_path)
    _refuse_interactive(data, command, request.config_path)

    output_path = str(lookup(data, command, OUTPUT_KEY[command]) or "")
    trainer = str(lookup(data, command, "training.trainer_type") or "")
    processes = count_processes(command, trainer, request.gpus)
    argv = in_processes(
        command_line(command, config.path, overrides, output_path=output_path), processes
    )
    model_name = str(lookup(data, command, _MODEL_KEY.get(command, "model.model_name")) or "")
    name = slug(request.job_name or f"{command}-{Path(model_name).name}")
    # Without a path `oumi synth` writes a file named by the time into the working folder.
    output = _output(data, request)
    output_dir = output.parent if output and command in WRITES_A_FILE else output
    files = {"config": request.config_path, "working_dir": request.client_cwd}
    if output:
        files["output"] = str(output)
    if command is Command.TRAIN:
        files["checkpoints"] = f"{output}/checkpoint-<step>"
    job_config = {
        "name": name,
        "resources": {"cloud": LOCAL_CLOUD},
        "working_dir": request.client_cwd,
        "envs": _ENVS | request.envs | gpu_envs(request),
        "run": shlex.join(argv),
    }
    return JobPlan(
        kind=ConfigKind.COMMAND,
        name=name,
        cloud=LOCAL_CLOUD,
        cluster_name=request.cluster_name or LOCAL_CLUSTER,
        argv=argv,
        job_config=dump_yaml(job_config),
        working_dir=request.client_cwd,
        output_dir=str(output_dir) if output_dir else None,
        model_name=model_name,
        files=files,
        gpus=request.gpus,
        processes=None if processes == ALL else processes,
        effective_batch_size=_batch(request, data, processes),
        written_for_gpus=_written_for(request, config),
    )


def _batch(request: JobRequest, data: Mapping[str, Any], processes: Processes) -> int | None:
    if request.command is not Command.TRAIN:
        return None
    sizes = {key: lookup(data, Command.TRAIN, key) for key in BATCH}
    return effective_batch(sizes, processes)


def _written_for(request: JobRequest, config: ConfigFile) -> int | None:
    if request.command is not Command.TRAIN:
        return None
    return gpus_written_for(config.text) or gpus_of_job_beside(Path(request.config_path))


def _plan_job_config(request: JobRequest, config: ConfigFile, job_id: str) -> JobPlan:
    if request.overrides:
        raise InvalidArgument(
            f"{request.config_path} is a job config, which takes no overrides "
            f"({', '.join(request.overrides)})",
            "Put the values into its run script",
        )
    data = {key: value for key, value in config.data.items() if value != MISSING}
    resources = data.get("resources", {})
    if isinstance(resources, dict):
        named = cast("dict[str, Any]", resources)
        data["resources"] = named | {"cloud": _cloud(request, named)}
    check_config(data, request.command, name=request.config_path)
    place = _place(request, data, job_id)
    working_dir = find_working_dir(request, data.get("working_dir"))
    name = slug(request.job_name or str(data.get("name") or Path(request.config_path).stem))
    data |= {"name": name, "working_dir": working_dir}
    if place.user:
        data["user"] = place.user
    mounts = cast("dict[str, object]", data.get("file_mounts"))
    if mounts and not is_local(request.cloud):
        # A number is a text to Oumi.
        data["file_mounts"] = {
            to: find_mount_source(request, str(path)) for to, path in mounts.items()
        }
    own_envs = cast("dict[str, object]", data.get("envs", {}))
    data["envs"] = _ENVS | {key: str(value) for key, value in own_envs.items()} | request.envs
    if request.gpus is not None and DEVICES_ENV in data["envs"]:
        raise InvalidConfig(
            f"{request.config_path} sets {DEVICES_ENV} in envs, and gpus is {request.gpus}",
            "Leave one of them out: with gpus, free GPUs are chosen for the job",
        )
    data["envs"] |= gpu_envs(request)
    files = {"config": request.config_path, "working_dir": working_dir}
    return JobPlan(
        kind=ConfigKind.JOB,
        name=name,
        cloud=request.cloud,
        cluster_name=place.cluster,
        is_own_cluster=place.is_own,
        argv=[],
        job_config=dump_yaml(data),
        working_dir=working_dir,
        files=files,
        gpus=request.gpus,
        written_for_gpus=gpus_requested(data),
    )


def with_plain_paths(request: JobRequest, config: ConfigFile) -> JobRequest:
    """Write out the request's output paths, with this process's home folder and variables.

    Raises:
        InvalidConfig: A path cannot be written out.
    """
    if config.kind is ConfigKind.JOB:
        return request
    paths = _paths(config, request.command, request.overrides, request.envs)
    return request.model_copy(update={"overrides": request.overrides | paths}) if paths else request


def _paths(
    config: ConfigFile,
    command: Command,
    overrides: Mapping[str, OverrideValue],
    envs: Mapping[str, str],
) -> dict[str, OverrideValue]:
    return written_out(apply_overrides(config.data, overrides, command), command, envs)


def with_own_output(request: JobRequest, config: ConfigFile, folder: str) -> JobRequest:
    """Move the request's results to a folder of this name below their usual one.

    A job config is unchanged, since its script decides where it writes.
    """
    if config.kind is ConfigKind.JOB:
        return request
    key = OUTPUT_KEY[request.command]
    data = apply_overrides(config.data, request.overrides, request.command)
    text = str(lookup(data, request.command, key) or "")
    if not text:
        return request
    path = PurePosixPath(text)
    is_file = request.command in WRITES_A_FILE
    own = path.parent / folder / path.name if is_file else path / folder
    return request.model_copy(update={"overrides": request.overrides | {key: str(own)}})


def _check_judge(
    data: Mapping[str, Any], overrides: Mapping[str, OverrideValue], path: str
) -> None:
    """Check what `oumi judge` takes as options alone."""
    if given := JUDGE_OPTIONS.keys() & data.keys():
        raise InvalidConfig(
            f"{path} has {', '.join(sorted(given))}, which no judge config has",
            "Give it as an override",
        )
    if not overrides.get("input_path"):
        raise InvalidArgument(
            "oumi judge has nothing to judge: no override input_path was given",
            'Give a JSONL file, {"input_path": "a.jsonl"}; output_path is where the scores go',
        )


def _refuse_interactive(data: Mapping[str, Any], command: Command, path: str) -> None:
    if command is Command.INFER and not data.get("input_path"):
        raise InvalidConfig(
            f"{path} has no input_path, so oumi infer would wait for keyboard input",
            "Set input_path to a JSONL file, in the config or as an override",
        )


def lookup(data: Mapping[str, Any], command: Command, key: str) -> object:
    """The value of a dotted key, or Oumi's default for it."""
    value: object = data
    spec = root_spec(CONFIG_TYPE[command])
    for part in key.split("."):
        if part not in fields_of(spec):
            return None
        spec = fields_of(spec)[part]
        value = cast("Mapping[str, object]", value).get(part) if value else None
    return spec.get("default") if value in (None, MISSING) else value


def _cloud(request: JobRequest, resources: Mapping[str, Any]) -> str:
    named = resources.get("cloud", MISSING)
    if named in (MISSING, request.cloud):
        return request.cloud
    raise Conflict(
        f"{request.config_path} names cloud {named!r} in resources.cloud, "
        f"but the call requests cloud {request.cloud!r}",
        f"Request cloud {named!r} or change the config",
    )


def _place(request: JobRequest, data: Mapping[str, Any], job_id: str) -> JobPlace:
    user = data.get("user")
    return place_of(
        request.cloud,
        cluster=request.cluster_name,
        user=str(user) if user else None,
        job_id=job_id,
        connections=os.environ.get(CONNECTIONS_ENV, ""),
        config_path=request.config_path,
    )
