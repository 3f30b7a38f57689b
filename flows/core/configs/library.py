"""Oumi's own configs on this machine: ``oumi://`` paths and the aliases of Oumi's commands."""

import re
from difflib import get_close_matches
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from flows.core.configs.schema import ConfigType, aliases_of_oumi
from flows.core.errors import ConfigNotFound
from flows.core.file_names import is_file
from flows.core.settings import Settings

PREFIX: Final = "oumi://"


def installed_oumi() -> str:
    """The version of the installed Oumi; empty if there is none."""
    try:
        return version("oumi")
    except PackageNotFoundError:
        return ""


def fetched_library(settings: Settings, oumi_version: str) -> Path:
    """The folder to which the configs of this version of Oumi are fetched."""
    return settings.catalog_dir / f"oumi-{oumi_version}" / "configs"


def library_folder(settings: Settings) -> Path | None:
    """The folder of Oumi's configs; None if they are not on this machine."""
    folder = settings.configs_dir or fetched_library(settings, installed_oumi())
    return folder if folder.is_dir() else None


def is_library_path(name: str) -> bool:
    """Whether a name is that of a config of Oumi's library."""
    return name.lower().startswith(PREFIX)


def path_of_alias(name: str, config_type: ConfigType | None) -> str:
    """The ``oumi://`` path that an alias of Oumi means; empty if it is none.

    Args:
        name: The alias, such as ``llama3.1-8b``.
        config_type: The type of config that the command loads; None: the first that it has.
    """
    paths = aliases_of_oumi().get(name, {})
    if config_type is None:
        return next((path for kind in ConfigType if (path := paths.get(kind))), "")
    return paths.get(config_type, "")


def find_in_library(name: str, settings: Settings | None = None) -> Path:
    """Find the file on this machine of an ``oumi://`` path.

    Raises:
        ConfigNotFound: The library is not on this machine, or has no such config.
    """
    folder = library_folder(settings or Settings())
    if folder is None:
        raise ConfigNotFound(
            f"{name} is in Oumi's library, which is not on this machine",
            "Fetch it with search_configs or `oumi-flows configs`, and try again; or set "
            "OUMI_FLOWS_CONFIGS_DIR to a copy of Oumi's configs folder",
        )
    rest = re.sub(r"^oumi://", "", name, flags=re.IGNORECASE).lstrip("/").removeprefix("configs/")
    path = folder / rest
    if ".." in path.parts or not is_file(path):
        raise ConfigNotFound(f"Oumi's library has no config {name}", _near_misses(folder, rest))
    return path


def _near_misses(folder: Path, name: str) -> str:
    known = [path.relative_to(folder).as_posix() for path in folder.rglob("*.yaml")]
    close = get_close_matches(name, known, n=2, cutoff=0.7)
    if close:
        return f"Did you mean {' or '.join(f'{PREFIX}configs/{path}' for path in close)}?"
    return "Find its path with search_configs"
