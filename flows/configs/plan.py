"""What a job will run, worked out from its request and its config. Nothing is started."""

import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, cast

from pydantic import Field

from flows.configs.arguments import command_line
from flows.configs.checks import MISSING, check_config
from flows.configs.overrides import apply_overrides, check_overrides
from flows.configs.reader import ConfigFile, ConfigKind
from flows.configs.schema import CONFIG_TYPE, fields_of, root_spec
from flows.configs.yaml_text import check_oumi_reads, dump_yaml
from flows.errors import Conflict, InvalidArgument, InvalidConfig
from flows.models import Command, JobRequest, OverrideValue, Value
from flows.names import LOCAL_CLOUD, slug

RESUME_KEY: Final = "training.resume_from_checkpoint"
_OUTPUT_KEY: Final = {
    Command.TRAIN: "training.output_dir",
    Command.TUNE: "tuning.output_dir",
    Command.EVALUATE: "output_dir",
    Command.ANALYZE: "output_path",
    Command.QUANTIZE: "output_path",
    Command.INFER: "output_path",
    Command.SYNTH: "output_path",
}
_WRITES_A_FILE: Final = frozenset({Command.INFER, Command.SYNTH})
_MODEL_KEY: Final = {Command.SYNTH: "inference_config.model.model_name"}
_ENVS: Final = {
    # Without it Oumi's metric lines arrive in one burst when the process exits.
    "PYTHONUNBUFFERED": "1",
    # Rich folds lines at 80 columns where there is no terminal.
    "COLUMNS": "400",
}


class JobPlan(Value):
    """Exactly what a job will run, and where."""

    kind: ConfigKind
    name: str = Field(description="The job's name for the launcher: the request's, or derived.")
    cloud: str
    argv: list[str] = Field(description="The command; empty for a job config, which has scripts.")
    job_config: str = Field(description="The whole Oumi job config that is launched, as YAML.")
    working_dir: str | None = Field(description="Folder the job runs in, or is synced from.")
    output_dir: str | None = Field(default=None, description="Absolute folder of the results.")
    model_name: str = ""
    files: dict[str, str] = Field(
        default_factory=dict[str, str], description="Where things are read from and written to."
    )


def make_plan(
    request: JobRequest, config: ConfigFile, *, resume_from: Path | str | None = None
) -> JobPlan:
    """Works out what a request runs; the same request and config always give the same plan.

    Args:
        request: What was asked for.
        config: Its config; the plan reads the file at ``config.path``, so give the copy that was
            kept at submission to run the config as it was then.
        resume_from: A checkpoint to go on from; for `train` alone.

    Raises:
        InvalidArgument: The overrides or the cloud do not go with this config.
        InvalidConfig: The config cannot be run.
        Conflict: The request and the job config name different clouds.
    """
    if config.kind is ConfigKind.JOB:
        return _plan_job_config(request, config, resume_from)
    return _plan_command(request, config, resume_from)


def _plan_command(
    request: JobRequest, config: ConfigFile, resume_from: Path | str | None
) -> JobPlan:
    command = request.command
    if request.cloud != LOCAL_CLOUD:
        raise InvalidArgument(
            f"{request.config_path} is a {command} config and runs on this machine alone, "
            f"not on cloud {request.cloud!r}",
            "Write a job config that runs it there, as guidance://cloud-launch shows",
        )
    overrides = _with_resume(request.overrides, command, resume_from)
    check_overrides(overrides, command)
    if command is not Command.ANALYZE:
        check_oumi_reads(config.text, request.config_path)
    data = apply_overrides(config.data, overrides, command)
    check_config(data, command, name=request.config_path)
    _refuse_interactive(data, command, request.config_path)

    output_path = str(_lookup(data, command, _OUTPUT_KEY[command]) or "")
    argv = command_line(command, config.path, overrides, output_path=output_path)
    model_name = str(_lookup(data, command, _MODEL_KEY.get(command, "model.model_name")) or "")
    name = slug(request.job_name or f"{command}-{Path(model_name).name}")
    # Without a path `oumi synth` writes a file named by the time into the working folder.
    output = _absolute(output_path, request.client_cwd) if output_path else None
    output_dir = output.parent if output and command in _WRITES_A_FILE else output
    files = {"config": request.config_path, "working_dir": request.client_cwd}
    if output:
        files["output"] = str(output)
    if command is Command.TRAIN:
        files["checkpoints"] = f"{output}/checkpoint-<step>"
    job_config = {
        "name": name,
        "resources": {"cloud": LOCAL_CLOUD},
        "working_dir": request.client_cwd,
        "envs": dict(_ENVS),
        "run": shlex.join(argv),
    }
    return JobPlan(
        kind=ConfigKind.COMMAND,
        name=name,
        cloud=LOCAL_CLOUD,
        argv=argv,
        job_config=dump_yaml(job_config),
        working_dir=request.client_cwd,
        output_dir=str(output_dir) if output_dir else None,
        model_name=model_name,
        files=files,
    )


def _plan_job_config(
    request: JobRequest, config: ConfigFile, resume_from: Path | str | None
) -> JobPlan:
    if request.overrides:
        raise InvalidArgument(
            f"{request.config_path} is a job config, which takes no overrides "
            f"({', '.join(request.overrides)})",
            "Put the values into its run script",
        )
    if resume_from is not None:
        raise InvalidArgument(
            f"{request.config_path} is a job config, whose run script decides where to resume",
            "Retry it without a checkpoint",
        )
    data = {key: value for key, value in config.data.items() if value != MISSING}
    resources = data.get("resources", {})
    if isinstance(resources, dict):
        named = cast("dict[str, Any]", resources)
        data["resources"] = named | {"cloud": _cloud(request, named)}
    check_config(data, request.command, name=request.config_path)
    working_dir = _working_dir(request, data.get("working_dir"))
    name = slug(request.job_name or str(data.get("name") or Path(request.config_path).stem))
    data |= {"name": name, "working_dir": working_dir}
    own_envs = cast("dict[str, object]", data.get("envs", {}))
    data["envs"] = _ENVS | {key: str(value) for key, value in own_envs.items()}
    files = {"config": request.config_path}
    if working_dir:
        files["working_dir"] = working_dir
    return JobPlan(
        kind=ConfigKind.JOB,
        name=name,
        cloud=cast("dict[str, str]", data["resources"])["cloud"],
        argv=[],
        job_config=dump_yaml(data),
        working_dir=working_dir,
        files=files,
    )


def _with_resume(
    overrides: Mapping[str, OverrideValue], command: Command, resume_from: Path | str | None
) -> dict[str, OverrideValue]:
    if resume_from is None:
        return dict(overrides)
    if command is not Command.TRAIN:
        raise InvalidArgument(
            f"oumi {command} cannot resume from a checkpoint ({resume_from})",
            "Retry it from the beginning",
        )
    # It goes before training.try_resume_from_last_checkpoint, with which Oumi 0.9 takes the
    # highest checkpoint even when it was only half written.
    return dict(overrides) | {RESUME_KEY: str(resume_from)}


def _refuse_interactive(data: Mapping[str, Any], command: Command, path: str) -> None:
    if command is Command.INFER and not data.get("input_path"):
        raise InvalidConfig(
            f"{path} has no input_path, without which oumi infer waits for a person to type",
            "Set input_path to a JSONL file, in the config or as an override",
        )


def _absolute(path: str, client_cwd: str) -> Path:
    return Path(os.path.normpath(Path(client_cwd, path)))


def _lookup(data: Mapping[str, Any], command: Command, key: str) -> object:
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
        f"but cloud {request.cloud!r} was asked for",
        f"Ask for cloud {named!r} or change the config",
    )


def _working_dir(request: JobRequest, working_dir: object) -> str | None:
    """The absolute working folder; None leaves a cloud job without files of ours."""
    if working_dir in (None, MISSING):
        return request.client_cwd if request.cloud == LOCAL_CLOUD else None
    text = str(working_dir)
    path = _absolute(str(Path(text).expanduser()), request.client_cwd)
    if not path.is_dir():
        raise InvalidConfig(
            f"{request.config_path}: working_dir {text!r} is not a folder ({path})",
            "Correct it; a relative one starts from client_cwd",
        )
    # Oumi's Slurm cloud copies a folder's content when its path ends in a slash.
    return f"{path}/" if text.endswith("/") else str(path)
