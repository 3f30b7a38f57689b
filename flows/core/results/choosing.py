"""Choose which files of a job to copy, and where each one goes."""

import posixpath
from collections.abc import Callable, Iterable, Sequence
from pathlib import PurePosixPath
from typing import Final, NamedTuple

from flows.core.errors import InvalidArgument
from flows.core.results.describing import Found
from flows.core.results.listing import FileFact, Root, is_within, relative
from flows.core.results.sorting import Group

_NAME_MAX: Final = 4096
KINDS: Final = ("all", "models", "checkpoints", "best", "scores", "files")


class ChosenFile(NamedTuple):
    """A file to copy.

    Attributes:
        folder: The folder of results that it is in.
        source: Its path there, relative.
        target: Its path in the target folder, relative.
    """

    folder: str
    source: str
    target: str
    size: int

    @property
    def path(self) -> str:
        """Its absolute path, where it is."""
        return posixpath.join(self.folder, self.source)


def choose(found: Found, what: Sequence[str]) -> list[ChosenFile]:
    """Choose files.

    Args:
        found: The results of a job.
        what: Kinds of `KINDS`, names such as ``checkpoint-60``, or paths as they were listed;
            empty: everything.

    Raises:
        InvalidArgument: There is no such result, or none at all.
    """
    chosen = {path for one in what or ["all"] for path in _paths(found, one)}
    if not chosen:
        raise InvalidArgument(
            "the job has no results to copy",
            "See get_job_results; a job that was just started has none yet",
        )
    return _place_files(found, chosen)


def _place_files(found: Found, paths: Iterable[str]) -> list[ChosenFile]:
    """Give each file a target of its own."""
    known = {fact.path: (root, fact.size) for root in _roots(found) for fact in root.files}
    files: dict[str, ChosenFile] = {}
    for path in sorted(paths):
        root, size = known[path]
        source = relative(path, root.folder)
        target = posixpath.join(root.place, source)
        if target in files:
            # Two folders of the same name.
            target = posixpath.join(root.folder.strip("/").replace("/", "_"), source)
        files[target] = ChosenFile(root.folder, source, target, size)
    return list(files.values())


def check_what(what: Iterable[str]) -> None:
    """Refuse names of results that leave their folder.

    Raises:
        InvalidArgument: One has a part ``..``, or is empty.
    """
    for name in what:
        if (
            not name.strip()
            or len(name) > _NAME_MAX
            or ".." in PurePosixPath(name).parts
            or "\0" in name
        ):
            raise InvalidArgument(
                f"what names {name!r}, which leaves the folders of the results",
                f"Use {', '.join(KINDS)}, or a path that get_job_results lists",
            )


def _roots(found: Found) -> Sequence[Root]:
    return found.listing.roots


def _paths(found: Found, name: str) -> list[str]:
    files = _OF_KIND[name](found) if name in _OF_KIND else _find_named(found, name)
    if not files and (name not in _OF_KIND or name == "best"):
        known = [PurePosixPath(one.folder).name for one in found.sorted.checkpoints]
        raise InvalidArgument(
            f"the job has no result {name!r}",
            f"Use {', '.join([*KINDS, *known[:5]])}, or a path that get_job_results lists",
        )
    return [fact.path for fact in files]


def _find_named(found: Found, name: str) -> list[FileFact]:
    """The files of a path, or of a folder's or file's name."""
    check_what([name])
    every = found.own_files()
    path = posixpath.normpath(name)
    if path.startswith("/"):
        is_result = any(is_within(path, root.folder) for root in _roots(found))
        return [fact for fact in every if is_result and is_within(fact.path, path)]
    inner = [posixpath.join(root.folder, path) for root in _roots(found)]
    within = [fact for fact in every if any(is_within(fact.path, one) for one in inner)]
    return within or [fact for fact in every if path in PurePosixPath(fact.path).parts]


def _of(groups: Iterable[Group]) -> list[FileFact]:
    return [fact for group in groups for fact in group.files]


_OF_KIND: Final[dict[str, Callable[[Found], list[FileFact]]]] = {
    "all": lambda found: found.own_files(),
    "models": lambda found: _of(found.sorted.models),
    "checkpoints": lambda found: _of(found.sorted.checkpoints),
    "best": lambda found: _of([found.best_group] if found.best_group else []),
    "scores": lambda found: _of(found.sorted.evaluations),
    "files": lambda found: [one.fact for one in found.sorted.others],
}
