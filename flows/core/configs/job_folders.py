"""The folders of a job's files on this machine: its working folder, and sources of mounts."""

import os
from pathlib import Path

from flows.core.configs.checks import MISSING
from flows.core.configs.clouds import CloudKind, Copying, kind_of
from flows.core.errors import InvalidConfig
from flows.core.file_names import exists, expand_home, is_folder
from flows.core.models import JobRequest


def find_working_dir(request: JobRequest, working_dir: object) -> str:
    """Find the absolute folder of the job's files.

    Raises:
        InvalidConfig: It is no folder, or the whole home folder would be copied.
    """
    kind = kind_of(request.cloud)
    if working_dir in (None, MISSING):
        _refuse_whole_home(request, kind)
        working_dir = "."
    text = str(working_dir)
    path = absolute_path(str(expand_home(text)), request.client_cwd)
    if not is_folder(path):
        raise InvalidConfig(
            f"{request.config_path}: working_dir {text!r} is not a folder ({path})",
            "Correct it; a relative one starts from client_cwd",
        )
    return f"{str(path).rstrip('/')}/" if _is_content(text, kind) else str(path)


def _is_content(text: str, kind: CloudKind) -> bool:
    """Whether rsync copies the content: if the path ends in a slash or is a single dot."""
    return text.endswith("/") or (text == "." and kind.copying is Copying.GITIGNORE_EXCLUDES)


def _refuse_whole_home(request: JobRequest, kind: CloudKind) -> None:
    """Refuse to copy a home folder, or the root folder, unless the config names it."""
    folder = Path(os.path.normpath(request.client_cwd))
    if not kind.is_local and folder in (Path("/"), Path.home()):
        raise InvalidConfig(
            f"{request.config_path} has no working_dir, so all of {folder} would be copied to "
            f"cloud {request.cloud!r}",
            "Give the project's folder as client_cwd, or set working_dir",
        )


def find_mount_source(request: JobRequest, path: str) -> str:
    """Find the source of a file mount: an absolute path, or a URL of a store.

    Raises:
        InvalidConfig: It does not exist.
    """
    if "://" in path:
        return path
    absolute = absolute_path(str(expand_home(path)), request.client_cwd)
    if not exists(absolute):
        raise InvalidConfig(
            f"{request.config_path}: file_mounts names {path!r}, but {absolute} does not exist",
            "Correct it; a relative one starts from client_cwd",
        )
    return f"{absolute}/" if path.endswith("/") else str(absolute)


def absolute_path(path: str, client_cwd: str) -> Path:
    """The path, which starts from `client_cwd` if it is relative."""
    return Path(os.path.normpath(Path(client_cwd, path)))
