"""Flows that answer, for a worker to run."""

import asyncio

from prefect import flow

from flows.answers.answering import answering
from flows.core.errors import CloudUnavailable
from flows.core.models import Answer

gate = asyncio.Event()
"""The answer to 500 waits for it."""


class Doubled(Answer):
    number: int


@flow(name="double", persist_result=False)
@answering
async def double(number: int) -> Doubled:
    if number < 0:
        raise CloudUnavailable(f"There is no cloud {number}", "Use another. Any will do")
    if number == 0:
        raise ZeroDivisionError("a defect")
    if number == 500:
        await gate.wait()
    if number > 1000:
        await asyncio.Event().wait()
    return Doubled(summary=f"Twice {number}.", number=2 * number)
