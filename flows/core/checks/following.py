"""Read the configs that a job's scripts load."""

import os
import re
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple, cast

from flows.core.checks.job import Job
from flows.core.checks.made_files import OUMI_FETCH
from flows.core.checks.notes import Notes
from flows.core.checks.problems import note_odd_values, note_problems, note_unreadable
from flows.core.checks.recipe import Recipe
from flows.core.checks.script import MadeFiles, OumiCall
from flows.core.checks.shell_words import from_start, write_home
from flows.core.configs.checks import config_problems
from flows.core.configs.library import find_in_library, is_library_path, path_of_alias
from flows.core.configs.overrides import apply_overrides, override_key_problem, override_problems
from flows.core.configs.processes import gpus_written_for
from flows.core.configs.reader import read_config
from flows.core.configs.schema import CONFIG_TYPE, options_of
from flows.core.configs.yaml_lines import Places
from flows.core.configs.yaml_text import parse_yaml
from flows.core.errors import ConfigNotFound, InvalidConfig, OumiFlowsError
from flows.core.file_names import expand_home, is_file, is_folder
from flows.core.findings import FindingCode, Severity
from flows.core.models import Command, OverrideValue

_MOST: Final = 20
"""Most configs of a script that are read."""
_MOST_OF_A_GLOB: Final = 10
_UNKNOWN: Final = re.compile(r"[$`<]|^\{\}$|^:::|^-$|^/dev/|^/proc/")

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


def follow_scripts(job: Job) -> list[Recipe]:
    """Read the configs that the job's scripts load, and check them with their options."""
    recipes: list[Recipe] = []
    outputs = MadeFiles()
    for key, script in (("setup", job.setup), ("run", job.run)):
        for call in script.oumi_calls():
            follower = _Follower(job, key, call, job.files_made_before(key, call).plus(outputs))
            if len(recipes) >= _MOST:
                follower.note_unread(f"only the first {_MOST} configs are read")
                break
            for recipe in follower.follow():
                recipes.append(recipe)
                outputs = outputs.plus(_output_of(recipe))
    return recipes


def _output_of(recipe: Recipe) -> MadeFiles:
    """The files a command makes, as paths of this machine."""
    output = recipe.output[1]
    if recipe.base is None or "$" in output:
        return MadeFiles(anything=True)
    return MadeFiles(files=frozenset({os.path.normpath(recipe.base / output)} if output else ()))


class _Found(NamedTuple):
    """A file on this machine with the config of a call.

    Attributes:
        is_sure: Whether the call certainly reads this file.
        is_fetched: Whether Oumi fetches it for the job.
    """

    path: Path
    is_sure: bool = True
    is_fetched: bool = False


class _Follower:
    """Follows one call of a script.

    Args:
        job: The job config.
        key: ``setup`` or ``run``.
        call: The call.
        made: The files that may have been made before it, as paths of this machine.
    """

    def __init__(self, job: Job, key: str, call: OumiCall, made: MadeFiles) -> None:
        self._job = job
        self._key = key
        self._call = call
        self._made = made

    def follow(self) -> list[Recipe]:
        """Read the call's configs; note those that are missing, broken or unknown."""
        return [recipe for found in self._find() if (recipe := self._read(found)) is not None]

    def note_unread(self, why: str) -> None:
        """Note that the call's config is not checked."""
        self._note(
            Severity.WARNING,
            FindingCode.CONFIG_NOT_READ,
            f"{self._what}: {why}, so its config was not checked",
            "Check that config by itself",
        )

    @property
    def _what(self) -> str:
        config = f" -c {self._call.config}" if self._call.config else ""
        return f"{self._key} runs `oumi {self._call.command}{config}`"

    @property
    def _folder(self) -> Path | None:
        """The folder on this machine that the call runs in; None if unknown."""
        return self._job.folder(self._call.cwd)

    def _note(
        self, severity: Severity, code: FindingCode, message: str, fix: str, *, nearest: str = ""
    ) -> None:
        notes, line = self._job.notes, self._call.line
        notes.add(severity, code, message, fix, key=self._key, nearest=nearest, script_line=line)

    def _find(self) -> list[_Found]:
        call, config = self._call, self._call.config
        below = from_start(config)
        config = write_home(config) if below is None else str(self._job.working_dir / below)
        if not config or (_UNKNOWN.search(config) and below is None):
            self.note_unread("the script decides when it runs which one it is")
            return []
        alias = path_of_alias(config, CONFIG_TYPE[call.command])
        fetched = f"{OUMI_FETCH}/"
        if alias or is_library_path(config) or config.startswith(fetched):
            return self._find_in_library(alias or config.removeprefix(fetched))
        if config.startswith(("http://", "https://")):
            self._note(
                self._severity,
                FindingCode.PATH_NOT_FOUND,
                f"{self._what}, and Oumi reads no config from a web address",
                "Download it first, or use an oumi:// path",
            )
            return []
        path = Path(os.path.normpath(config)) if below is not None else self._path(config)
        return [] if path is None else self._existing(path)

    @property
    def _severity(self) -> Severity:
        return Severity.ERROR if self._call.is_certain else Severity.WARNING

    def _find_in_library(self, name: str) -> list[_Found]:
        try:
            return [_Found(find_in_library(name), is_fetched=True)]
        except ConfigNotFound as error:
            self.note_unread(f"{error.what}. {error.next_step}".rstrip("."))
            return []

    def _path(self, config: str) -> Path | None:
        """The path on this machine of a config; None if unknown, which is noted."""
        job, cwd = self._job, self._call.cwd
        on_target = config
        if not config.startswith(("/", "~")):
            folder = self._folder
            if folder is not None:
                return Path(os.path.normpath(folder / config))
            on_target = f"{cwd}/{config}" if cwd is not None else ""
        if not on_target:
            self.note_unread("the folder it runs in is not known")
            return None
        source = job.source_of(on_target)
        if source is not None:
            # The check of the mounts reports it if it is missing.
            return source if is_file(source) else None
        if job.target.is_local:
            return expand_home(on_target)
        self.note_unread(f"{on_target} is a path of {job.target.cloud}")
        return None

    def _existing(self, path: Path) -> list[_Found]:
        call = self._call
        if is_file(path):
            return [_Found(path, is_sure=not call.is_elsewhere)]
        if call.is_elsewhere:
            self.note_unread("it runs on another machine or in a container")
            return []
        if re.search(r"[*?\[]", path.name) or re.search(r"[*?\[]", str(path.parent)):
            return self._find_all(path)
        made = self._made
        if made.has(str(path)):
            self.note_unread("the script makes the file")
            return []
        if made.anything and not is_folder(path.parent):
            self.note_unread("the script may make the file")
            return []
        nearest = _misspelt(path)
        is_sure = call.is_certain and (not made.may_have(str(path)) or bool(nearest))
        nearest = nearest or _nearest(path)
        hint = f"; did you mean {nearest}?" if nearest else ""
        self._note(
            Severity.ERROR if is_sure else Severity.WARNING,
            FindingCode.PATH_NOT_FOUND,
            f"{self._what}, but {path} does not exist{hint}",
            "Correct the path; a relative one starts from working_dir",
            nearest=nearest,
        )
        return []

    def _find_all(self, pattern: Path) -> list[_Found]:
        """The files that a shell's pattern matches."""
        first = next(i for i, part in enumerate(pattern.parts) if re.search(r"[*?\[]", part))
        folder = Path(*pattern.parts[:first])
        try:
            matches = folder.glob("/".join(pattern.parts[first:]))
            found = sorted(path for path in islice(matches, 100) if is_file(path))
        except (OSError, ValueError):
            found = []
        if not found:
            self.note_unread("no file here matches the pattern")
        return [_Found(path, is_sure=len(found) == 1) for path in found[:_MOST_OF_A_GLOB]]

    def _read(self, found: _Found) -> Recipe | None:
        call, job = self._call, self._job
        is_certain = call.is_certain and found.is_sure
        try:
            config = read_config(found.path)
        except OumiFlowsError as error:
            severity = Severity.ERROR if is_certain else Severity.WARNING
            message = f"{self._what}: {error.what}"
            self._note(severity, FindingCode.INVALID_YAML, message, error.next_step)
            return None
        notes = Notes(str(found.path), Places(config.text), is_certain=is_certain)
        config_type = CONFIG_TYPE[call.command]
        overrides = self._overrides()
        try:
            data = apply_overrides(config.data, overrides, call.command)
        except OumiFlowsError as error:
            self._note(self._severity, FindingCode.BAD_OPTION, error.what, error.next_step)
            data = config.data
        note_problems(notes, config_problems(data, config_type))
        note_unreadable(notes, config, config_type)
        note_odd_values(notes, data)
        return Recipe(
            str(found.path),
            data,
            config_type,
            self._folder,
            notes,
            processes=None if call.is_distributed else 1,
            made_files=self._made,
            envs=job.envs,
            by_shell=frozenset(_key_of(call, option) for option in call.by_shell),
            written_for=gpus_written_for(config.text),
            is_fetched=found.is_fetched,
        )

    def _overrides(self) -> dict[str, OverrideValue]:
        """The options of the call that set keys; note those that Oumi would refuse."""
        call = self._call
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
                self._note(
                    self._severity,
                    FindingCode.BAD_OPTION,
                    f"{self._key} gives `oumi {call.command}` the option --{option}: "
                    f"{problem.message}",
                    "" if problem.nearest else "Correct it in the script",
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


def _names_beside(path: Path) -> list[str]:
    try:
        return [entry.name for entry in path.parent.iterdir()]
    except OSError:
        return []


def _nearest(path: Path) -> str:
    return next(iter(get_close_matches(path.name, _names_beside(path), n=1, cutoff=0.75)), "")


def _misspelt(path: Path) -> str:
    """A file beside a missing one whose name has the same letters: no script makes such a pair."""
    letters = sorted(path.name)
    return next((name for name in _names_beside(path) if sorted(name) == letters), "")
