"""Check the files and folders that a launch reads and writes, on its target."""

import os
import re
from collections.abc import Mapping
from contextlib import suppress
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Final, Protocol

from flows.core.checks.data_files import Format, data_inputs, wrong_content
from flows.core.checks.launch import Launch
from flows.core.checks.recipe import Recipe
from flows.core.checks.sync import Sync
from flows.core.configs.output_paths import PATH_KEYS, is_plain, write_out
from flows.core.configs.schema import CONFIG_TYPE
from flows.core.errors import InvalidConfig
from flows.core.file_names import exists, is_file, is_folder
from flows.core.findings import FindingCode, Severity

_SYSTEM: Final = ("/usr", "/bin", "/sbin", "/etc", "/dev", "/proc", "/sys", "/lib", "/opt", "/var",
                  "/mnt")  # fmt: skip
_ON_EVERY_MACHINE: Final = frozenset(
    {"/", "/tmp", "/root", "/home", "/srv", "/run", "/media", "/boot", "/data"}  # noqa: S108
)
"""Folders that exist on every machine, unlike their content."""

_WRITTEN_OUT: Final = {CONFIG_TYPE[command]: keys for command, keys in PATH_KEYS.items()}


class _Add(Protocol):
    def __call__(
        self, severity: Severity, code: FindingCode, message: str, fix: str, *, key: str
    ) -> None: ...


class PathChecks:
    """Checks every path of a launch, and keeps the status of each.

    Args:
        launch: The launch.
    """

    def __init__(self, launch: Launch) -> None:
        self.statuses: dict[str, str] = {}
        self._launch = launch
        self._sync = Sync(launch.job) if launch.job else None

    def check(self) -> None:
        """Note paths that are missing, on another machine, or have wrong content."""
        launch = self._launch
        if launch.job is not None:
            self._check_working_dir()
            if not launch.target.is_local:
                self._check_scripts()
        for recipe in launch.recipes:
            if self._sync is not None:
                self._check_synced(recipe)
            formats = data_inputs(recipe)
            inputs = dict(recipe.inputs())
            for key, path in inputs.items():
                if key in _WRITTEN_OUT.get(recipe.config_type, ()):
                    path = self._write_out(recipe, key, path)  # noqa: PLW2901
                if path:
                    self._check_input(recipe, key, path, formats.get(key, Format()))
            if recipe.loads_model:
                for block in recipe.model_keys:
                    self._check_models(recipe, block)
            self._check_output(recipe, inputs)

    def _check_working_dir(self) -> None:
        job = self._launch.job
        if job is None:
            return
        if not is_folder(job.working_dir):
            job.notes.error(
                FindingCode.PATH_NOT_FOUND,
                f"working_dir {job.data.get('working_dir')} is not a folder ({job.working_dir})",
                "Correct it; a relative one starts from client_cwd",
                key="working_dir",
            )
        elif self._sync is not None:
            self._sync.check_size()

    def _check_scripts(self) -> None:
        job = self._launch.job
        if job is None:
            return
        made = job.made_files
        for key, script in (("setup", job.setup), ("run", job.run)):
            lines = {
                word.partition("=")[2] if word.startswith("-") else word: command.line
                for command in reversed(script.commands)
                if not command.is_elsewhere
                for word in command.words
            }
            for path, line in sorted(lines.items(), key=lambda item: item[1]):
                if not job.is_mounted(path) and not made.has_folder_of(path):
                    self._note_local(partial(job.notes.add, script_line=line), key, path)

    def _check_synced(self, recipe: Recipe) -> None:
        """Note a followed config that does not reach the target."""
        job = self._launch.job
        if self._sync is None or job is None or job.target.is_local or recipe.is_fetched:
            return
        path = Path(recipe.path)
        if any(
            path == source or source in path.parents
            for source in (job.local(text) for text in job.file_mounts.values())
        ):
            return
        why = self._sync.leaves_out(path)
        if why:
            job.notes.error(
                FindingCode.NOT_SYNCED,
                f"{path.name}, which run reads, {why}, so it does not reach {job.target.cloud}",
                "Change the ignore file, or copy it with file_mounts",
                key="run",
            )

    def _check_input(
        self, recipe: Recipe, key: str, path: str, wanted: Format | None = None
    ) -> None:
        if "$" in path:
            self.statuses[path] = "not_known"
            return
        if path.startswith("~"):
            self.statuses[path] = "not_found"
            recipe.notes.error(
                FindingCode.PATH_NOT_FOUND,
                f"{key} is {path}, and Oumi does not expand ~",
                "Write the path out in full",
                key=key,
            )
            return
        if path.startswith("/") and not self._launch.target.is_local:
            self._check_remote(recipe, key, path)
            return
        if recipe.base is None and not path.startswith("/"):
            self.statuses[path] = "not_known"
            return
        local = Path(os.path.normpath((recipe.base or Path("/")) / path))
        if exists(local):
            self._check_found(recipe, key, path, local, wanted or Format())
        else:
            self._note_missing(recipe, key, path, local)

    def _check_found(
        self, recipe: Recipe, key: str, path: str, local: Path, wanted: Format
    ) -> None:
        why = self._sync.leaves_out(local) if self._sync is not None else ""
        if why:
            self.statuses[path] = "not_synced"
            cloud = self._launch.target.cloud
            recipe.notes.error(
                FindingCode.NOT_SYNCED,
                f"{key} is {path}, which {why}, so it does not reach {cloud}",
                "Change the ignore file, or copy it with file_mounts",
                key=key,
            )
            return
        self.statuses[path] = "valid"
        wrong = wrong_content(local, wanted)
        if wrong:
            self.statuses[path] = "bad_content"
            recipe.notes.error(
                FindingCode.BAD_DATA_FILE, f"{key} is {path}, {wrong}", "Fix the file", key=key
            )

    def _note_missing(self, recipe: Recipe, key: str, path: str, local: Path) -> None:
        may_be_made = recipe.made_files.may_have(str(local))
        self.statuses[path] = "made_by_script" if may_be_made else "not_found"
        if recipe.made_files.has(str(local)):
            return
        severity = Severity.WARNING if may_be_made else Severity.ERROR
        nearest = _nearest(local)
        hint = f"; did you mean {nearest}?" if nearest else ""
        message = f"{key} is {path}, and {local} does not exist{hint}"
        fix = "Make sure that the script makes the file" if may_be_made else "Correct the path"
        recipe.notes.add(
            severity, FindingCode.PATH_NOT_FOUND, message, fix, key=key, nearest=nearest
        )

    def _check_remote(self, recipe: Recipe, key: str, path: str) -> None:
        """Check an absolute path, which means the target's file system."""
        job = self._launch.job
        if job is not None and job.is_mounted(path):
            source = job.source_of(path)
            missing = source is not None and exists(source.parent) and not exists(source)
            self.statuses[path] = "not_found" if missing else "mounted"
            if (
                missing
                and source is not None
                and source not in map(job.local, job.file_mounts.values())
            ):
                recipe.notes.error(
                    FindingCode.PATH_NOT_FOUND,
                    f"{key} is {path}, and the folder mounted there has no {source}",
                    "Correct the path",
                    key=key,
                )
            return
        is_made = job is not None and job.made_files.has_folder_of(path)
        is_noted = not is_made and self._note_local(recipe.notes.add, key, path)
        self.statuses[path] = "local_path_on_cloud" if is_noted else "not_known"

    def _note_local(self, note: _Add, key: str, path: str) -> bool:
        """Note a path that means this machine instead of the target; return whether it does."""
        severity = _weight_on_cloud(path)
        if severity is None:
            return False
        cloud, kind = self._launch.target.cloud, self._launch.target.kind
        if kind is not None and kind.shares_files:
            severity = Severity.WARNING
        is_sure = severity is Severity.ERROR
        note(
            severity,
            FindingCode.LOCAL_PATH_ON_CLOUD,
            f"{key} has {path}, a path of this machine that "
            f"{'is' if is_sure else 'may be'} not on {cloud}",
            "Put the file into working_dir and use a relative path, or add it to file_mounts",
            key=key,
        )
        return True

    def _check_models(self, recipe: Recipe, block: str) -> None:
        for name in ("model_name", "adapter_model", "tokenizer_name"):
            key, path = f"{block}.{name}", recipe.text(f"{block}.{name}")
            if is_path(path):
                self._check_input(recipe, key, path)

    def _check_output(self, recipe: Recipe, inputs: Mapping[str, str]) -> None:
        paths = {
            key: self._write_out(recipe, key, recipe.text(key))
            for key in _WRITTEN_OUT.get(recipe.config_type, ())
            if key not in inputs
        }
        key, path = recipe.output
        path = paths.get(key, path) or path
        if not path or not is_plain(path):
            return
        if not self._launch.target.is_local:
            job = self._launch.job
            is_there = job is None or job.is_mounted(path) or job.made_files.has_folder_of(path)
            # The job makes missing output folders.
            is_sure = _weight_on_cloud(path) is Severity.ERROR
            if is_sure and not is_there and self._note_local(recipe.notes.add, key, path):
                self.statuses[path] = "local_path_on_cloud"
            return
        if recipe.base is None:
            return
        local = Path(os.path.normpath(recipe.base / path))
        holder = next((folder for folder in [local, *local.parents] if exists(folder)), local)
        if is_file(local) and "dir" in key.rpartition(".")[2]:
            why = f"{local} is a file"
        elif is_file(holder) and holder != local:
            why = f"{holder} is a file, so nothing can be written below it"
        elif not os.access(holder, os.W_OK):
            why = f"{holder} cannot be written to"
        else:
            self.statuses[path] = "writable"
            return
        self.statuses[path] = "not_writable"
        recipe.notes.error(
            FindingCode.PATH_NOT_WRITABLE,
            f"{key} is {path}, and {why}",
            "Choose a folder that can be written to",
            key=key,
        )

    def _write_out(self, recipe: Recipe, key: str, path: str) -> str:
        """Write out the path as a submission does; empty if it is noted as not plain.

        A submission writes out the paths of a command's own config, not of a script's config.
        """
        if is_plain(path) or key in recipe.by_shell:
            return path
        message = f"{key} is {path}; Oumi does not expand that, and its trainers expand ~ alone"
        fix = "Write the path out, or give it in the script, as in --KEY=$HOME/runs"
        if self._launch.job is None:
            try:
                environ = {**os.environ, **recipe.envs}
                return write_out(path, environ, key=key, config=recipe.data)
            except InvalidConfig as error:
                message, fix = error.what, error.next_step
        self.statuses[path] = "not_plain"
        severity = Severity.ERROR
        with suppress(InvalidConfig):
            # A reference to a key of the config is a folder of that name, which is odd but works.
            write_out(path, {}, key=key, config=recipe.data)
            severity = Severity.ERROR if path.startswith("~") else Severity.WARNING
        recipe.notes.add(severity, FindingCode.PATH_NOT_PLAIN, message, fix, key=key)
        return ""


def is_path(name: str) -> bool:
    """Whether a model's name means a folder instead of a repository of the hub."""
    return name.startswith(("/", "./", "../", "~")) or name.count("/") > 1


def _weight_on_cloud(path: str) -> Severity | None:
    """Severity of an absolute path that means this machine; None if it fits any machine."""
    if re.match(r"/Users/[^/]+/|[A-Za-z]:\\", path):
        return Severity.ERROR
    if not path.startswith("/") or "$" in path or (path.rstrip("/") or "/") in _ON_EVERY_MACHINE:
        return None
    if any(path == folder or path.startswith(f"{folder}/") for folder in _SYSTEM):
        return None
    home = str(Path.home())
    if home not in ("/", "/root") and path.startswith(f"{home}/"):
        return Severity.ERROR
    return Severity.WARNING if exists(Path(path)) else None


def _nearest(local: Path) -> str:
    try:
        names = [entry.name for entry in local.parent.iterdir()]
    except OSError:
        return ""
    return next(iter(get_close_matches(local.name, names, n=1, cutoff=0.75)), "")
