"""Answers which checkpoint another job can continue from, on the machine that has it."""

import asyncio

from prefect import flow

from flows.answers.answering import answering
from flows.core.configs.last_checkpoint import (
    CheckpointQuestion,
    LastCheckpoint,
    find_last_checkpoint,
)
from flows.core.names import LAST_CHECKPOINT_FLOW


@flow(
    name=LAST_CHECKPOINT_FLOW,
    persist_result=False,
    description="Find the last whole checkpoint of a job.",
)
@answering
async def last_checkpoint(question: CheckpointQuestion) -> LastCheckpoint:
    """Find the last whole checkpoint of a job.

    Args:
        question: The job and its folder.
    """
    return await asyncio.to_thread(find_last_checkpoint, question)
