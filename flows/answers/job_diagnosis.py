"""Answers how a job does, on the machine that has its training record."""

import asyncio
from contextlib import suppress

from prefect import flow

from flows.answers.answering import answering
from flows.core.configs.reader import load_snapshot
from flows.core.diagnosis.findings import Diagnosis
from flows.core.diagnosis.reading import diagnose_job
from flows.core.diagnosis.request import DiagnosisRequest
from flows.core.errors import OumiFlowsError
from flows.core.names import DIAGNOSE_FLOW
from flows.core.redaction import Redactor, config_secrets, own_secrets
from flows.core.secret_marks import read_marks
from flows.core.settings import Settings


@flow(name=DIAGNOSE_FLOW, persist_result=False, description="Find what is wrong with a training.")
@answering
async def job_diagnosis(request: DiagnosisRequest) -> Diagnosis:
    """Find what is wrong with a training.

    Args:
        request: The job.
    """
    return await asyncio.to_thread(_diagnose, request)


def _diagnose(request: DiagnosisRequest) -> Diagnosis:
    settings = Settings()
    secrets = own_secrets()
    with suppress(OumiFlowsError):
        config = load_snapshot(request.config_sha256, settings.snapshots_dir)
        secrets += config_secrets(config.data)
    return diagnose_job(request, Redactor(secrets, marks=read_marks(settings.home)))
