"""Assembles the use cases, for the MCP server and the terminal alike."""

from dataclasses import dataclass

from flows.core.settings import Settings
from mcp_server.catalog.catalog import Catalog
from mcp_server.catalog.library import OumiLibrary
from mcp_server.prefect_api.connections import EngineSource
from mcp_server.prefect_api.gateway import PrefectGateway
from mcp_server.services.budgets import BudgetService
from mcp_server.services.catalog import CatalogService
from mcp_server.services.checks import CheckService, make_checks
from mcp_server.services.cluster_jobs import ClusterJobs
from mcp_server.services.clusters import ClusterService
from mcp_server.services.data_preview import DataPreviewService
from mcp_server.services.families.pipelines import PipelineService
from mcp_server.services.families.sweeps import SweepService
from mcp_server.services.jobs.notifications import Notifications
from mcp_server.services.jobs.service import JobService
from mcp_server.services.jobs.waiter import JobWaiter
from mcp_server.services.machines import MachineService
from mcp_server.services.pruning import PruneService
from mcp_server.services.results.collecting import CollectService
from mcp_server.services.results.reading import ResultsService
from mcp_server.services.schedules.service import ScheduleService, make_schedules
from mcp_server.services.training.diagnosis import DiagnosisService
from mcp_server.services.training.metrics import MetricsService
from mcp_server.services.worker_calls import WorkerCalls


@dataclass(frozen=True, kw_only=True)
class Services:
    """The use cases on one engine."""

    gateway: PrefectGateway
    jobs: JobService
    waiter: JobWaiter
    clusters: ClusterService
    checks: CheckService
    catalog: CatalogService
    schedules: ScheduleService
    pipelines: PipelineService
    sweeps: SweepService
    metrics: MetricsService
    diagnosis: DiagnosisService
    data: DataPreviewService
    results: ResultsService
    collect: CollectService
    prune: PruneService
    budgets: BudgetService
    machines: MachineService


def make_gateway(settings: Settings, engine: EngineSource) -> PrefectGateway:
    """Make the adapter of Prefect's API."""
    return PrefectGateway(
        engine, timeout_seconds=settings.api_timeout_seconds, work_pool=settings.work_pool
    )


def make_services(
    settings: Settings,
    gateway: PrefectGateway,
    *,
    fetches: bool = True,
    patience_seconds: float | None = None,
) -> Services:
    """Make the use cases; nothing is read or sent yet.

    Args:
        settings: What a person can set.
        gateway: Prefect's API.
        fetches: Whether to fetch Oumi's configs in the background when they are missing.
        patience_seconds: How long a check of a config waits for an engine that starts; None: as
            long as it takes.
    """
    configs = Catalog(OumiLibrary(settings))
    snapshots_dir = settings.snapshots_dir
    calls = WorkerCalls(gateway)
    jobs = JobService(
        gateway,
        snapshots_dir=snapshots_dir,
        records_dir=settings.records_dir,
        home=settings.home,
    )
    metrics = MetricsService(gateway, calls)
    return Services(
        gateway=gateway,
        jobs=jobs,
        waiter=JobWaiter(gateway, jobs, metrics),
        clusters=ClusterService(calls, ClusterJobs(gateway)),
        checks=make_checks(settings, gateway, configs, patience_seconds=patience_seconds),
        catalog=CatalogService(configs, fetches=fetches),
        schedules=make_schedules(settings, gateway),
        pipelines=PipelineService(gateway, snapshots_dir=snapshots_dir),
        sweeps=SweepService(gateway, snapshots_dir=snapshots_dir),
        metrics=metrics,
        diagnosis=DiagnosisService(gateway, calls, snapshots_dir=snapshots_dir, home=settings.home),
        data=DataPreviewService(calls),
        results=ResultsService(gateway, snapshots_dir=snapshots_dir, home=settings.home),
        collect=CollectService(gateway, snapshots_dir=snapshots_dir),
        prune=PruneService(calls, keep_days=settings.keep_days),
        machines=MachineService(gateway),
        budgets=BudgetService(calls, Notifications(gateway), pool=settings.work_pool),
    )
