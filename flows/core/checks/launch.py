"""A config with everything it would run, including the configs that a job config names."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from flows.core.checks.following import follow_scripts
from flows.core.checks.job import Job, read_job
from flows.core.checks.notes import Notes
from flows.core.checks.problems import note_odd_values, note_problems, note_unreadable
from flows.core.checks.recipe import Recipe, guess_type
from flows.core.checks.target import Target
from flows.core.checks.values import mapping_of
from flows.core.configs.checks import Problem, ProblemKind, config_problems
from flows.core.configs.overrides import apply_overrides
from flows.core.configs.processes import ALL, count_processes, gpus_written_for
from flows.core.configs.reader import ConfigFile, is_job_config
from flows.core.configs.schema import CONFIG_TYPE, ConfigType
from flows.core.configs.yaml_lines import Places
from flows.core.file_names import expand_home
from flows.core.findings import Finding
from flows.core.models import Command, GpuCount, JobRequest, OverrideValue
from flows.core.names import LOCAL_CLOUD


@dataclass(frozen=True)
class Launch:
    """A launch to check.

    Attributes:
        target: The machine.
        job: The job config; None: a command runs on this machine.
        recipes: The configs that commands load.
        notes: The findings in the config that is checked.
        gpus: GPUs of the worker's machine that it asks for; None: one share.
    """

    target: Target
    job: Job | None
    recipes: list[Recipe]
    notes: Notes
    client_cwd: Path
    gpus: GpuCount | None = None

    @property
    def findings(self) -> list[Finding]:
        """All findings so far."""
        return self.notes.findings + [
            finding
            for recipe in self.recipes
            if recipe.notes is not self.notes
            for finding in recipe.notes.findings
        ]

    def forget_findings(self) -> None:
        """Drop the findings so far, once they were reported."""
        for notes in [self.notes, *(recipe.notes for recipe in self.recipes)]:
            notes.findings.clear()


def read_launch(
    config: ConfigFile,
    *,
    client_cwd: str,
    cloud: str = "",
    command: Command | None = None,
    overrides: Mapping[str, OverrideValue] | None = None,
    envs: Mapping[str, str] | None = None,
    gpus: GpuCount | None = None,
) -> Launch:
    """Read the launch of a config, and check its keys and those of the configs it names.

    Args:
        config: The config.
        client_cwd: Absolute folder that relative paths start from.
        cloud: The requested cloud; empty: the job config's, else this machine.
        command: The command that would load it; None: guessed from its keys.
        overrides: Checked overrides of a command's config.
        envs: Environment variables of the job; they override those of a job config.
        gpus: GPUs of the worker's machine that it asks for; None: one share.
    """
    folder = expand_home(client_cwd)
    notes = Notes(str(config.path), Places(config.text))
    if is_job_config(config.data):
        content = {**config.data, "envs": {**mapping_of(config.data.get("envs")), **(envs or {})}}
        job = read_job(str(config.path), content, cloud=cloud, client_cwd=folder, notes=notes)
        problems = config_problems(config.data, ConfigType.JOB)
        # A job config without a cloud runs on the requested one.
        note_problems(notes, [one for one in problems if not _is_unset_cloud(one)])
        return Launch(job.target, job, follow_scripts(job), notes, folder, gpus)
    config_type = CONFIG_TYPE[command] if command else guess_type(config.data)
    data = config.data
    if command and overrides:
        data = apply_overrides(data, overrides, command)
    note_problems(notes, config_problems(data, config_type))
    note_unreadable(notes, config, config_type)
    note_odd_values(notes, data)
    recipe = Recipe(
        str(config.path),
        data,
        config_type,
        folder,
        notes,
        envs=envs or {},
        written_for=gpus_written_for(config.text),
    )
    if config_type is ConfigType.TRAINING:
        processes = count_processes(Command.TRAIN, recipe.trainer, gpus)
        recipe = replace(recipe, processes=None if processes == ALL else processes)
    else:
        recipe = replace(recipe, processes=1)
    return Launch(Target(cloud or LOCAL_CLOUD), None, [recipe], notes, folder, gpus)


def read_launch_of(request: JobRequest, config: ConfigFile) -> Launch:
    """Read the launch of a job that is, or was, submitted.

    Args:
        request: What to run.
        config: Its config.
    """
    return read_launch(
        config,
        client_cwd=request.client_cwd,
        cloud=request.cloud,
        command=request.command,
        overrides=request.overrides,
        envs=request.envs,
        gpus=request.gpus,
    )


def _is_unset_cloud(problem: Problem) -> bool:
    return problem.key == "resources.cloud" and problem.kind is ProblemKind.MISSING_KEY
