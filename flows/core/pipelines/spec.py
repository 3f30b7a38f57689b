"""A pipeline that was checked: the parameter of the `oumi-pipeline` flow."""

from typing import Any

from pydantic import Field

from flows.core.models import JobRequest, Value


class Part(Value):
    """One job of a pipeline; a step that is repeated over a list has one job per item.

    Attributes:
        name: The step's name, with the index of the item where there are several: ``evaluate[1]``.
        request: The job; its overrides and environment still refer to other steps.
        after: The parts that must end before it starts.
        meant: The parts that a reference to a step means here: one, or all of them.
        when: The condition under which it runs; empty: none.
        tags: Tags of its run for the notifications at its end.
    """

    name: str
    step: str
    request: JobRequest
    after: list[str] = Field(default_factory=list[str])
    meant: dict[str, str | list[str]] = Field(default_factory=dict[str, str | list[str]])
    when: str = ""
    item: Any = None
    index: int | None = None
    output_dir: str = Field(default="", description="Folder of the results of a job config's job.")
    may_fail: bool = False
    tags: list[str] = Field(default_factory=list[str])


class Pipeline(Value):
    """A pipeline to run, each part after those it needs.

    Attributes:
        path: The file it was read from; empty: it was given inline.
        parts: The parts, each after those it needs.
    """

    name: str
    path: str = ""
    client_cwd: str
    parts: list[Part]
