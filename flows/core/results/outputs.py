"""Which files and folders the commands of a job write. Blocking: it reads configs."""

import os
from pathlib import Path
from typing import Final, NamedTuple

from flows.core.checks.launch import Launch, read_launch_of
from flows.core.checks.recipe import Recipe
from flows.core.configs.clouds import is_local
from flows.core.configs.plan import with_own_output, with_plain_paths
from flows.core.configs.reader import ConfigFile, ConfigKind, submitted_config
from flows.core.configs.schema import ConfigType
from flows.core.errors import OumiFlowsError
from flows.core.file_names import expand_home
from flows.core.models import JobRequest
from flows.core.results.values import Output, OutputKind, ResultsRequest

_KINDS: Final = {
    ConfigType.TRAINING: OutputKind.TRAINING,
    ConfigType.TUNING: OutputKind.TUNING,
    ConfigType.EVALUATION: OutputKind.EVALUATION,
    ConfigType.ASYNC_EVALUATION: OutputKind.EVALUATION,
    ConfigType.INFERENCE: OutputKind.INFERENCE,
    ConfigType.SYNTHESIS: OutputKind.SYNTHESIS,
    ConfigType.ANALYZE: OutputKind.ANALYSIS,
    ConfigType.QUANTIZATION: OutputKind.QUANTIZATION,
}
_FILES: Final = frozenset({OutputKind.INFERENCE, OutputKind.SYNTHESIS})


class Outputs(NamedTuple):
    """What the commands of a job write.

    Attributes:
        outputs: Files and folders, none twice.
        working_dir: The folder on this machine whose new files may be of the job, because a script
            runs there; empty: no script does.
    """

    outputs: list[Output]
    working_dir: str = ""


def find_outputs(wanted: ResultsRequest, snapshots_dir: Path) -> Outputs:
    """Find what the commands of a job write; a config that cannot be read names nothing.

    Args:
        wanted: The job.
        snapshots_dir: Where configs are kept as submitted.
    """
    named = [Output(path=wanted.output_dir, kind=OutputKind.OTHER)] if wanted.output_dir else []
    if wanted.request is None:
        return Outputs(named)
    try:
        request = wanted.request
        config = submitted_config(Path(request.config_path), request.config_sha256, snapshots_dir)
        found = _of_config(_with_own_folder(request, config, wanted.own_folder), config)
    except OumiFlowsError:
        return Outputs(named)
    known = {output.path for output in found.outputs}
    # A file's folder is what the run names of it.
    known |= {os.path.dirname(output.path) for output in found.outputs if output.is_file}  # noqa: PTH120
    return found._replace(
        outputs=[*found.outputs, *(one for one in named if one.path not in known)]
    )


def _with_own_folder(request: JobRequest, config: ConfigFile, folder: str) -> JobRequest:
    request = with_plain_paths(request, config)
    return with_own_output(request, config, folder) if request.own_output and folder else request


def _of_config(request: JobRequest, config: ConfigFile) -> Outputs:
    launch = read_launch_of(request, config)
    is_here = is_local(request.cloud)
    found = [_output(recipe, launch, is_here=is_here) for recipe in launch.recipes]
    unique = {output.path: output for output in found if output is not None}
    is_script = config.kind is ConfigKind.JOB
    folder = str(launch.job.working_dir) if launch.job is not None and is_script else ""
    return Outputs(list(unique.values()), folder if is_here else "")


def _output(recipe: Recipe, launch: Launch, *, is_here: bool) -> Output | None:
    key, path = recipe.output
    kind = _KINDS.get(recipe.config_type)
    if not path or kind is None or "$" in path or key in recipe.by_shell:
        return None
    base = recipe.base or Path(launch.client_cwd)
    if is_here:
        path = os.path.normpath(base / expand_home(path))
    elif not path.startswith(("/", "~")):
        folder = launch.job.working_dir if launch.job is not None else base
        path = os.path.relpath(base / path, folder)
    mode = recipe.text("peft.peft_save_mode").removeprefix("PeftSaveMode.").upper()
    return Output(
        path=path,
        kind=kind,
        is_file=kind in _FILES,
        merges=recipe.uses_lora and mode == "MERGED",
    )
