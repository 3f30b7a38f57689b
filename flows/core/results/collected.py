"""List what a collection has copied to this machine. Blocking."""

from pathlib import Path
from typing import Final

from pydantic import ValidationError

from flows.core.errors import InvalidArgument
from flows.core.results.bounds import shorten
from flows.core.results.manifest import manifest_path, read_manifest
from flows.core.results.reading import this_machine
from flows.core.results.values import CollectRequest, FoundFile, JobResults

_KIND: Final = "collected"


def list_collected(job_id: str, request: object) -> JobResults:
    """List the files in the manifest of a collection, with their checksums.

    Args:
        job_id: The collection.
        request: Its parameter.

    Raises:
        InvalidArgument: It is no collection.
    """
    asked = _read_request(job_id, request)
    folder = Path(asked.into)
    digests = read_manifest(folder, asked.source.job_id)
    files = [
        FoundFile(
            path=str(folder / name), kind=_KIND, bytes=_size(folder / name), rows=[f"sha256 {one}"]
        )
        for name, one in digests.items()
    ]
    return shorten(_describe(job_id, asked, files))


def _read_request(job_id: str, request: object) -> CollectRequest:
    try:
        return CollectRequest.model_validate(request)
    except ValidationError as error:
        raise InvalidArgument(
            f"{job_id} is no valid collection", "Call collect_results again"
        ) from error


def _describe(job_id: str, asked: CollectRequest, files: list[FoundFile]) -> JobResults:
    folder, total = Path(asked.into), sum(file.bytes for file in files)
    summary = f"Nothing has been collected into {folder} yet."
    if files:
        manifest = manifest_path(folder, asked.source.job_id)
        what = f"{len(files)} files, {total:,} bytes of {asked.source_name}"
        summary = f"{what} in {folder}, with checksums in {manifest}."
    return JobResults(
        summary=summary,
        job_id=job_id,
        where=this_machine(),
        folders=[str(folder)],
        checkpoints=[],
        models=[],
        scores=[],
        files=files,
        total_files=len(files),
        total_bytes=total,
    )


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
