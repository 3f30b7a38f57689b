"""Find and read a config file, and keep its copy as submitted."""

import hashlib
import os
import re
import socket
import stat
from collections.abc import Mapping
from difflib import get_close_matches
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, cast

from flows.core.configs.library import find_in_library, is_library_path, path_of_alias
from flows.core.configs.schema import ConfigType
from flows.core.configs.yaml_text import parse_yaml
from flows.core.errors import ConfigNotFound, InvalidArgument, InvalidConfig
from flows.core.models import Value
from flows.core.private_files import write_private
from flows.core.regular_files import NotRegular, TooLarge, read_regular_file

MAX_CONFIG_BYTES: Final = 1_000_000
_JOB_KEYS: Final = frozenset({"resources", "setup", "run"})
_SHA256: Final = re.compile(r"[0-9a-f]{64}")


class ConfigKind(StrEnum):
    """The two kinds of config that a job can have."""

    COMMAND = "command"
    JOB = "job"


class ConfigFile(Value):
    """A config file and its content."""

    path: Path
    text: str
    data: dict[str, Any]
    kind: ConfigKind
    sha256: str


def resolve_config_path(
    config_path: str, client_cwd: str, config_type: ConfigType | None = None
) -> Path:
    """Resolve the path of a config that a client gives.

    Args:
        config_path: Absolute, relative to `client_cwd`, or starting with ``~``; or, as Oumi's own
            commands take it, a path of Oumi's library (``oumi://``) or an alias (``llama3.1-8b``).
        client_cwd: The client's working folder: absolute and existing.
        config_type: The type of config that the alias means; None: the first that it has.

    Raises:
        InvalidArgument: `client_cwd` or `config_path` cannot be used.
        ConfigNotFound: There is no such file; the message suggests similar names.
    """
    folder = find_client_folder(client_cwd)
    if not config_path.strip() or "\0" in config_path:
        raise InvalidArgument(
            f"config_path {config_path!r} is not a path", "Give the path of an Oumi config (YAML)"
        )
    named = config_path.strip()
    if is_library_path(named):
        return find_in_library(named)
    path = Path(os.path.normpath(folder / _expand(config_path, "config_path")))
    alias = path_of_alias(named, config_type)
    if alias and not path.is_file():
        return find_in_library(alias)
    try:
        exists = path.exists()
    except OSError as error:
        raise ConfigNotFound(
            f"{path} cannot be looked up ({error.strerror})", "Check the path and its folders"
        ) from error
    if not exists:
        raise _not_found(path)
    return path


def _not_found(path: Path) -> ConfigNotFound:
    """Describe a missing file; without its folder, it may be on the client's machine."""
    if path.parent.is_dir():
        return ConfigNotFound(f"there is no file {path}", _near_misses(path))
    machine = socket.gethostname()
    return ConfigNotFound(
        f"there is no file {path} on {machine}, where this server runs, nor its folder",
        f"Give the path of a file on {machine}; a relative one starts from client_cwd",
    )


def read_config(path: Path) -> ConfigFile:
    """Read the config at `path`.

    Raises:
        ConfigNotFound: The file is missing or cannot be read.
        InvalidConfig: It is not a file, not text, too large, or not a YAML mapping.
    """
    return _parse(_read_text(path), path)


def save_snapshot(text: str, snapshots_dir: Path) -> str:
    """Keep `text` under the hash of its content, and return the hash.

    Raises:
        OSError: The copy cannot be written, such as on a full disk.
    """
    sha256 = _hash(text)
    path = _snapshot_path(sha256, snapshots_dir)
    if path.exists():
        return sha256
    write_private(path, text)
    return sha256


def load_snapshot(sha256: str, snapshots_dir: Path) -> ConfigFile:
    """Read the submitted config with this hash; its path is the copy's.

    Raises:
        ConfigNotFound: There is no such copy.
        InvalidConfig: The copy was changed.
    """
    if not _SHA256.fullmatch(sha256):
        raise InvalidArgument(f"{sha256!r} is not a SHA-256", "Submit the job again")
    path = _snapshot_path(sha256, snapshots_dir)
    if not path.exists():
        raise ConfigNotFound(
            f"the config as submitted is no longer kept at {path}", "Submit the job again"
        )
    config = read_config(path)
    if config.sha256 != sha256:
        raise InvalidConfig(
            f"{path} was changed after the job was submitted", "Submit the job again"
        )
    return config


def submitted_config(path: Path, sha256: str | None, snapshots_dir: Path) -> ConfigFile:
    """Read the config as submitted, even if its file has moved since.

    Raises:
        InvalidConfig: The file has changed, and there is no copy on this machine.
    """
    if sha256 is None:
        return read_config(path)
    try:
        return load_snapshot(sha256, snapshots_dir)
    except ConfigNotFound:
        config = read_config(path)
    if config.sha256 != sha256:
        raise InvalidConfig(
            f"{path} changed after the job was submitted, and its copy is not on this machine",
            "Submit the job again",
        )
    return config


def is_job_config(data: Mapping[str, Any]) -> bool:
    """Whether this is a job config, which names its own commands, instead of a command's config."""
    return not _JOB_KEYS.isdisjoint(data)


def find_client_folder(client_cwd: str) -> Path:
    """Find the folder that a client works in.

    Raises:
        InvalidArgument: It is not an absolute path of a folder that can be entered.
    """
    next_step = "Give the absolute path of the folder you work in"
    if not client_cwd.strip() or "\0" in client_cwd:
        raise InvalidArgument(f"client_cwd {client_cwd!r} is not a path", next_step)
    folder = _expand(client_cwd, "client_cwd")
    if not folder.is_absolute():
        raise InvalidArgument(f"client_cwd {client_cwd!r} is not absolute", next_step)
    try:
        mode = folder.stat().st_mode
    except FileNotFoundError as error:
        machine = socket.gethostname()
        raise InvalidArgument(
            f"client_cwd {client_cwd!r} does not exist on {machine}, where this server runs",
            f"Give the absolute path of a folder on {machine}",
        ) from error
    except OSError as error:
        raise InvalidArgument(
            f"client_cwd {client_cwd!r} cannot be looked up ({error.strerror})", next_step
        ) from error
    if not stat.S_ISDIR(mode):
        raise InvalidArgument(f"client_cwd {client_cwd!r} is not a folder", next_step)
    if not os.access(folder, os.R_OK | os.X_OK):
        raise InvalidArgument(
            f"client_cwd {client_cwd!r} cannot be entered (permission denied)",
            "Give read and execute permission on it, or another folder",
        )
    return Path(os.path.normpath(folder))


def _expand(path: str, argument: str) -> Path:
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise InvalidArgument(
            f"{argument} {path!r} names no home folder ({error})", "Write the path out in full"
        ) from error


def _near_misses(path: Path) -> str:
    default = "Check config_path; a relative one starts from client_cwd"
    try:
        names = sorted(p.name for p in path.parent.iterdir() if p.suffix in {".yaml", ".yml"})
    except OSError:
        return default
    if close := get_close_matches(path.name, names, n=3):
        return "Did you mean " + " or ".join(close) + "?"
    if names:
        more = ", ..." if len(names) > 5 else ""
        return f"{default}; {path.parent} has {', '.join(names[:5])}{more}"
    return default


def _read_text(path: Path) -> str:
    try:
        return _read_bytes(path).decode()
    except UnicodeDecodeError as error:
        raise InvalidConfig(
            f"{path} is not UTF-8 text (byte {error.start})", "Save it as UTF-8"
        ) from error


def _read_bytes(path: Path) -> bytes:
    next_step = "Give the path of an Oumi config (YAML)"
    try:
        if not path.exists():
            raise ConfigNotFound(f"there is no file {path}", next_step)
        if path.is_dir():
            raise InvalidConfig(f"{path} is a folder", "Give the path of a YAML file in it")
        return read_regular_file(path, limit=MAX_CONFIG_BYTES)
    except NotRegular as error:
        raise InvalidConfig(f"{path} is not a regular file", next_step) from error
    except TooLarge as error:
        raise InvalidConfig(
            f"{path} is larger than {MAX_CONFIG_BYTES:,} bytes, too large for a config", next_step
        ) from error
    except OSError as error:
        raise ConfigNotFound(
            f"{path} cannot be read ({error.strerror})", "Check its permissions"
        ) from error


def _parse(text: str, path: Path) -> ConfigFile:
    data = parse_yaml(text, str(path))
    if data is None:
        raise InvalidConfig(f"{path} is empty", "Write an Oumi config into it")
    if not isinstance(data, dict):
        kind = "a list" if isinstance(data, list) else "a single value"
        raise InvalidConfig(
            f"{path} holds {kind}, not keys and values", "An Oumi config is a YAML mapping"
        )
    mapping = {str(key): value for key, value in cast(dict[object, Any], data).items()}
    return ConfigFile(
        path=path,
        text=text,
        data=mapping,
        kind=ConfigKind.JOB if is_job_config(mapping) else ConfigKind.COMMAND,
        sha256=_hash(text),
    )


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _snapshot_path(sha256: str, snapshots_dir: Path) -> Path:
    return snapshots_dir / f"{sha256}.yaml"
