"""A config with everything it would run, including the configs that a job config names."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, cast

from flows.core.checks.job import Job, read_job
from flows.core.checks.notes import Notes
from flows.core.checks.recipe import Recipe, guess_type
from flows.core.checks.script import MadeFiles, OumiCall
from flows.core.checks.target import Target
from flows.core.checks.values import mapping_of
from flows.core.configs.checks import Problem, ProblemKind, config_problems
from flows.core.configs.overrides import apply_overrides, override_key_problem, override_problems
from flows.core.configs.processes import ALL, count_processes, gpus_written_for
from flows.core.configs.reader import ConfigFile, is_job_config, read_config
from flows.core.configs.schema import CONFIG_TYPE, ConfigType, options_of
from flows.core.configs.yaml_lines import Places
from flows.core.configs.yaml_text import parse_yaml
from flows.core.errors import InvalidConfig, OumiFlowsError
from flows.core.file_names import expand_home, is_file, is_folder
from flows.core.findings import Finding, FindingCode, Severity
from flows.core.models import Command, GpuCount, OverrideValue
from flows.core.names import LOCAL_CLOUD

_MAX_FOLLOWED: Final = 10
_CODES: Final = {
    ProblemKind.UNKNOWN_KEY: FindingCode.UNKNOWN_KEY,
    ProblemKind.MISSING_KEY: FindingCode.MISSING_KEY,
    ProblemKind.WRONG_TYPE: FindingCode.WRONG_TYPE,
}

_MEANT: Final = {
    (Command.JUDGE, "input"): "input_path",
    (Command.JUDGE, "output"): "output_path",
    (Command.QUANTIZE, "model"): "model.model_name",
    (Command.QUANTIZE, "output"): "output_path",
    (Command.ANALYZE, "output"): "output_path",
    (Command.ANALYZE, "dataset-name"): "dataset_name",
    (Command.ANALYZE, "dataset-path"): "dataset_path",
    (Command.ANALYZE, "sample-count"): "sample_count",
}
"""Keys whose options in Oumi 0.9's commands have another name."""


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
        return Launch(job.target, job, _follow_scripts(job), notes, folder, gpus)
    config_type = CONFIG_TYPE[command] if command else guess_type(config.data)
    data = config.data
    if command and overrides:
        data = apply_overrides(data, overrides, command)
    note_problems(notes, config_problems(data, config_type))
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


def _follow_scripts(job: Job) -> list[Recipe]:
    """Read the configs that the job's scripts load, and check them with their options."""
    recipes: list[Recipe] = []
    outputs = MadeFiles()
    for key, script in (("setup", job.setup), ("run", job.run)):
        for call in list(script.oumi_calls())[:_MAX_FOLLOWED]:
            recipe = _follow(job, call, key, job.files_made_before(key, call).plus(outputs))
            if recipe is not None:
                recipes.append(recipe)
                outputs = outputs.plus(_output_of(recipe))
    return recipes


def _output_of(recipe: Recipe) -> MadeFiles:
    """The files a command makes, as paths of this machine."""
    output = recipe.output[1]
    if recipe.base is None or "$" in output:
        return MadeFiles(anything=True)
    return MadeFiles(files=frozenset({os.path.normpath(recipe.base / output)} if output else ()))


def _follow(job: Job, call: OumiCall, key: str, made: MadeFiles) -> Recipe | None:
    path = _config_path(job, call, key, made)
    if path is None:
        return None
    severity = Severity.ERROR if call.is_certain else Severity.WARNING
    try:
        config = read_config(path)
    except OumiFlowsError as error:
        job.notes.add(
            severity,
            FindingCode.INVALID_YAML,
            f"{key} runs `oumi {call.command} -c {call.config}`: {error.what}",
            error.next_step,
            key=key,
        )
        return None
    notes = Notes(str(path), Places(config.text), is_certain=call.is_certain)
    config_type = CONFIG_TYPE[call.command]
    overrides = _overrides(job, call, key)
    try:
        data = apply_overrides(config.data, overrides, call.command)
    except OumiFlowsError as error:
        job.notes.add(severity, FindingCode.BAD_OPTION, error.what, error.next_step, key=key)
        data = config.data
    note_problems(notes, config_problems(data, config_type))
    return Recipe(
        str(path),
        data,
        config_type,
        None if call.cwd is None else Path(os.path.normpath(job.working_dir / call.cwd)),
        notes,
        processes=None if call.is_distributed else 1,
        made_files=made,
        envs=job.envs,
        by_shell=frozenset(_key_of(call, option) for option in call.by_shell),
        written_for=gpus_written_for(config.text),
    )


def _config_path(job: Job, call: OumiCall, key: str, made: MadeFiles) -> Path | None:
    """The file on this machine of a script's config; None if it is unknown."""
    config = call.config
    if "$" in config or "`" in config or config.startswith(("oumi://", "http://", "https://")):
        return None
    if config.startswith(("/", "~")):
        source = job.source_of(config)
        if source is not None:
            return (
                source if is_file(source) else None
            )  # the check of the mounts reports it if it is missing
        if job.target.is_local:
            return _existing(job, expand_home(config), call, key, made)
        return None
    if call.cwd is None:
        return None
    path = Path(os.path.normpath(job.working_dir / call.cwd / config))
    return _existing(job, path, call, key, made)


def _existing(job: Job, path: Path, call: OumiCall, key: str, made: MadeFiles) -> Path | None:
    if is_file(path):
        return path
    is_elsewhere = made.anything and not is_folder(job.working_dir / (call.cwd or ""))
    if made.has(str(path)) or is_elsewhere:
        return (
            None  # files that a script makes or fetches, such as a repository, cannot be read yet
        )
    is_sure = call.is_certain and not made.may_have(str(path))
    job.notes.add(
        Severity.ERROR if is_sure else Severity.WARNING,
        FindingCode.PATH_NOT_FOUND,
        f"{key} runs `oumi {call.command} -c {call.config}`, but {path} does not exist",
        "Correct the path; a relative one starts from working_dir",
        key=key,
    )
    return None


def _overrides(job: Job, call: OumiCall, key: str) -> dict[str, OverrideValue]:
    """The options of a call that set keys; note those that Oumi would refuse."""
    overrides: dict[str, OverrideValue] = {}
    own = {"help", *options_of(call.command)}
    for option, text in call.options.items():
        name = _key_of(call, option)
        problem = override_key_problem(name, call.command)
        if problem is not None and (option in own or option.startswith("[")):
            continue
        is_known = text is not None and "$" not in text and "`" not in text
        if problem is None and is_known:
            value = _value(text or "")
            problem = next(iter(override_problems(name, value, call.command)), None)
            overrides[name] = value
        if problem is not None:
            overrides.pop(name, None)
            job.notes.add(
                Severity.ERROR if call.is_certain else Severity.WARNING,
                FindingCode.BAD_OPTION,
                f"{key} gives `oumi {call.command}` the option --{option}: {problem.message}",
                "" if problem.nearest else "Correct it in the script",
                key=key,
                nearest=problem.nearest,
            )
    return overrides


def _key_of(call: OumiCall, option: str) -> str:
    """The key that an option sets."""
    return _MEANT.get((call.command, option), option)


def _value(text: str) -> OverrideValue:
    """The value Oumi reads from an option."""
    try:
        value = cast("OverrideValue", parse_yaml(text, "an option"))
    except InvalidConfig:
        return text
    return value if isinstance(value, str | int | float | list) else text
