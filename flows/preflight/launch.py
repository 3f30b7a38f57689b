"""A config with everything it would run, followed from a job config into the configs it names."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

import yaml

from flows.configs.checks import Problem, ProblemKind, config_problems
from flows.configs.overrides import apply_overrides, override_key_problem, override_problems
from flows.configs.places import Places
from flows.configs.reader import ConfigFile, is_job_config, read_config
from flows.configs.schema import CONFIG_TYPE, ConfigType, fields_of, root_spec
from flows.errors import OumiFlowsError
from flows.findings import Finding, FindingCode
from flows.models import Command, OverrideValue
from flows.names import LOCAL_CLOUD
from flows.preflight.job import Job, read_job
from flows.preflight.notes import Notes
from flows.preflight.recipe import Recipe, guess_type
from flows.preflight.script import OumiCall
from flows.preflight.target import Target
from flows.preflight.values import mapping_of

_MAX_FOLLOWED: Final = 10
_CODES: Final = {
    ProblemKind.UNKNOWN_KEY: FindingCode.UNKNOWN_KEY,
    ProblemKind.MISSING_KEY: FindingCode.MISSING_KEY,
    ProblemKind.WRONG_TYPE: FindingCode.WRONG_TYPE,
}


@dataclass(frozen=True)
class Launch:
    """What would be launched.

    Attributes:
        target: Where.
        job: The job config; None: a command runs on this machine.
        recipes: The configs that commands load.
        notes: What was found in the file that was asked about.
    """

    target: Target
    job: Job | None
    recipes: list[Recipe]
    notes: Notes
    client_cwd: Path

    @property
    def found(self) -> list[Finding]:
        """All that was noted so far."""
        return self.notes.found + [
            finding
            for recipe in self.recipes
            if recipe.notes is not self.notes
            for finding in recipe.notes.found
        ]

    def forget_found(self) -> None:
        """Start anew, once what was found so far has been told."""
        for notes in [self.notes, *(recipe.notes for recipe in self.recipes)]:
            notes.found.clear()


def read_launch(
    config: ConfigFile,
    *,
    client_cwd: str,
    cloud: str = "",
    command: Command | None = None,
    overrides: Mapping[str, OverrideValue] | None = None,
    envs: Mapping[str, str] | None = None,
) -> Launch:
    """What a config would launch; its keys and those of the configs it names are checked.

    Args:
        config: The config.
        client_cwd: Absolute folder that relative paths start from.
        cloud: The cloud asked for; empty: as a job config says, else this machine.
        command: The command that would load it; None: as its keys tell.
        overrides: Checked overrides of a command's config.
        envs: Environment of the job, over that of a job config.
    """
    folder = Path(client_cwd).expanduser()
    notes = Notes(str(config.path), Places(config.text))
    if is_job_config(config.data):
        content = {**config.data, "envs": {**mapping_of(config.data.get("envs")), **(envs or {})}}
        job = read_job(str(config.path), content, cloud=cloud, client_cwd=folder, notes=notes)
        problems = config_problems(config.data, ConfigType.JOB)
        # A job config that names no cloud runs where the call says.
        note_problems(notes, [one for one in problems if not _is_unset_cloud(one)])
        return Launch(job.target, job, _followed(job), notes, folder)
    config_type = CONFIG_TYPE[command] if command else guess_type(config.data)
    data = config.data
    if command and overrides:
        data = apply_overrides(data, overrides, command)
    note_problems(notes, config_problems(data, config_type))
    recipe = Recipe(
        str(config.path), data, config_type, folder, notes, processes=1, envs=envs or {}
    )
    return Launch(Target(cloud or LOCAL_CLOUD), None, [recipe], notes, folder)


def note_problems(notes: Notes, problems: list[Problem]) -> None:
    """Note wrong keys and types."""
    for problem in problems:
        notes.error(
            _CODES[problem.kind],
            problem.message,
            "" if problem.nearest else _fix(problem),
            key=problem.key,
            nearest=problem.nearest,
        )


def _is_unset_cloud(problem: Problem) -> bool:
    return problem.key == "resources.cloud" and problem.kind is ProblemKind.MISSING_KEY


def _fix(problem: Problem) -> str:
    match problem.kind:
        case ProblemKind.UNKNOWN_KEY:
            return "Remove it; Oumi refuses keys it does not know"
        case ProblemKind.MISSING_KEY:
            return "Set it"
        case ProblemKind.WRONG_TYPE:
            return "Correct its value"


def _followed(job: Job) -> list[Recipe]:
    """The configs that the job's scripts load, checked with the options they are given."""
    recipes: list[Recipe] = []
    made: list[str] = []
    for key, script in (("setup", job.setup), ("run", job.run)):
        for call in list(script.oumi_calls())[:_MAX_FOLLOWED]:
            recipe = _follow(job, call, key, made)
            if recipe is not None:
                recipes.append(recipe)
                made.append(recipe.output[1])
    return recipes


def _follow(job: Job, call: OumiCall, key: str, made: list[str]) -> Recipe | None:
    path = _config_path(job, call, key)
    if path is None:
        return None
    try:
        config = read_config(path)
    except OumiFlowsError as error:
        job.notes.error(
            FindingCode.INVALID_YAML,
            f"{key} runs `oumi {call.command} -c {call.config}`: {error.what}",
            error.next_step,
            key=key,
        )
        return None
    notes = Notes(str(path), Places(config.text))
    config_type = CONFIG_TYPE[call.command]
    overrides = _overrides(job, call, key)
    try:
        data = apply_overrides(config.data, overrides, call.command)
    except OumiFlowsError as error:
        job.notes.error(FindingCode.BAD_OPTION, error.what, error.next_step, key=key)
        data = config.data
    note_problems(notes, config_problems(data, config_type))
    made_by_script = job.makes_files or bool(made)
    return Recipe(
        str(path),
        data,
        config_type,
        None if call.cwd is None else Path(os.path.normpath(job.working_dir / call.cwd)),
        notes,
        processes=None if call.is_distributed else 1,
        made_by_script=made_by_script,
        envs=job.envs,
    )


def _config_path(job: Job, call: OumiCall, key: str) -> Path | None:
    """The file on this machine that the script's config is; None if that cannot be told."""
    config = call.config
    if "$" in config or "`" in config or config.startswith(("oumi://", "http://", "https://")):
        return None
    if config.startswith(("/", "~")):
        source = job.source_of(config)
        if source is not None:
            return source if source.is_file() else None  # its absence is the mount's problem
        if job.target.is_local:
            return _existing(job, Path(config).expanduser(), call, key)
        return None
    if call.cwd is None:
        return None
    return _existing(job, Path(os.path.normpath(job.working_dir / call.cwd / config)), call, key)


def _existing(job: Job, path: Path, call: OumiCall, key: str) -> Path | None:
    if path.is_file():
        return path
    note = job.notes.warning if job.makes_files else job.notes.error
    note(
        FindingCode.PATH_NOT_FOUND,
        f"{key} runs `oumi {call.command} -c {call.config}`, and there is no file {path}",
        "Correct the path; a relative one starts from working_dir",
        key=key,
    )
    return None


def _overrides(job: Job, call: OumiCall, key: str) -> dict[str, OverrideValue]:
    """The options of a call that are values of keys; those that Oumi would refuse are noted."""
    overrides: dict[str, OverrideValue] = {}
    known = fields_of(root_spec(CONFIG_TYPE[call.command]))
    for name, text in call.options.items():
        if "." not in name and name not in known:
            continue  # an option of the command's own
        problem = override_key_problem(name, call.command)
        is_known = text is not None and "$" not in text and "`" not in text
        if problem is None and is_known:
            value = _value(text or "")
            problem = next(iter(override_problems(name, value, call.command)), None)
            overrides[name] = value
        if problem is not None:
            overrides.pop(name, None)
            job.notes.error(
                FindingCode.BAD_OPTION,
                f"{key} gives `oumi {call.command}` the option --{name}: {problem.message}",
                "" if problem.nearest else "Correct it in the script",
                key=key,
                nearest=problem.nearest,
            )
    return overrides


def _value(text: str) -> OverrideValue:
    """The value Oumi reads from an option."""
    try:
        value = cast("OverrideValue", yaml.safe_load(text))
    except yaml.YAMLError:
        return text
    return value if isinstance(value, str | int | float | list) else text
