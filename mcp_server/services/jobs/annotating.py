"""Notes and tags that people give jobs."""

from collections.abc import Sequence
from typing import Final

from pydantic import Field

from flows.core import names
from flows.core.errors import InvalidArgument
from flows.core.models import Value
from flows.core.run_labels import RunLabels
from mcp_server.prefect_api.annotations import AnnotationGateway
from mcp_server.prefect_api.gateway import PrefectGateway
from mcp_server.prefect_api.models import FlowRun
from mcp_server.services.jobs.submitting import refuse_secret

NOTE_MAX: Final = 1000
"""Characters of a note."""
TAG_MAX: Final = 50
TAGS_MAX: Final = 20


class Annotation(Value):
    """What people noted about a job."""

    summary: str = Field(description="One line a person can read.")
    job_id: str
    name: str
    note: str
    tags: list[str]


class Annotator:
    """Writes notes as labels and tags as tags of a job's run, which restarts and retries keep.

    Args:
        gateway: Prefect's API.
    """

    def __init__(self, gateway: PrefectGateway) -> None:
        self._gateway = gateway
        self._annotations = AnnotationGateway(gateway)

    async def annotate(
        self, run: FlowRun, *, note: str | None, tags: Sequence[str] | None
    ) -> Annotation:
        """Replace the note of a job, its tags, or both.

        Args:
            run: The job.
            note: The note; empty: none any more; None: as before.
            tags: All its tags but our own; None: as before.

        Raises:
            InvalidArgument: Neither is given, or one of them cannot be used.
        """
        if note is None and tags is None:
            raise InvalidArgument("neither note nor tags was given", "Give one of them, or both")
        wanted = None if tags is None else check_tags(tags)
        if note is not None:
            note = clean_note(note)
            await self._gateway.patch_labels(run.id, RunLabels(note=note))
            await self._annotations.show_note(run.id, note)
        if wanted is not None:
            # A write replaces all tags: those of the run itself may have changed meanwhile.
            run = await self._gateway.read_run(run.id)
            own = [tag for tag in run.tags if names.is_own_tag(tag)]
            await self._annotations.replace_tags(run.id, [*own, *wanted])
        note = run.labels.note or "" if note is None else note
        wanted = run.own_tags if wanted is None else wanted
        said = f"tags: {', '.join(wanted) or 'none'}; {f'note: {note}' if note else 'no note'}"
        return Annotation(
            summary=f"{run.name}: {said}.", job_id=run.id, name=run.name, note=note, tags=wanted
        )


def clean_note(text: str) -> str:
    """Return a note as one printable line.

    Raises:
        InvalidArgument: It is too long, or holds a secret.
    """
    text = _printable(text)
    if len(text) > NOTE_MAX:
        raise InvalidArgument(f"note is {len(text)} characters long", f"Use at most {NOTE_MAX}")
    refuse_secret("note", "", text)
    return text


def check_tags(tags: Sequence[str]) -> list[str]:
    """Return tags without repetitions, sorted.

    Raises:
        InvalidArgument: There are too many, or one of them cannot be used.
    """
    found = sorted({_printable(tag) for tag in tags})
    if len(found) > TAGS_MAX:
        raise InvalidArgument(f"{len(found)} tags were given", f"Use at most {TAGS_MAX}")
    for tag in found:
        if not 0 < len(tag) <= TAG_MAX:
            raise InvalidArgument(
                f"tag {tag[:TAG_MAX]!r} is {len(tag)} characters long",
                f"Use 1 to {TAG_MAX} printable characters",
            )
        if names.is_own_tag(tag):
            raise InvalidArgument(
                f"tag {tag!r} is one that oumi-flows or Prefect sets itself", "Use another word"
            )
        refuse_secret("a tag", "", tag)
    return found


def _printable(text: str) -> str:
    """Put a text on one line, without characters that cannot be seen."""
    line = " ".join(text.split())
    return " ".join("".join(one for one in line if one.isprintable()).split())
