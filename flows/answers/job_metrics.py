"""Answers what the metrics of a job are, on the machine that has its training record."""

import asyncio

from prefect import flow

from flows.answers.answering import answering
from flows.core.names import JOB_METRICS_FLOW
from flows.core.training.summary import describe_metrics
from flows.core.training.values import JobMetricsAnswer, MetricsRequest


@flow(
    name=JOB_METRICS_FLOW,
    persist_result=False,
    description="Read the metrics of a job where its training record is.",
)
@answering
async def job_metrics(request: MetricsRequest) -> JobMetricsAnswer:
    """Read the metrics of a job.

    Args:
        request: The job, its logs and what to read.
    """
    job = await asyncio.to_thread(describe_metrics, request)
    return JobMetricsAnswer(summary=f"{len(job.keys)} metrics.", job=job)
