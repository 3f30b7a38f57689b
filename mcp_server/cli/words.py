"""What a terminal calls the tools and arguments that messages name for a model."""

import re
from typing import Final

from mcp_server.declared_arguments import list_fields
from mcp_server.services.jobs.new_job import NewJob

WORDS: Final = {
    # A name of one plain word, such as command, stays.
    **{field.name: field.words for field in list_fields(NewJob) if "_" in field.name},
    "adopt_job": "`oumi-flows adopt`",
    "annotate_job": "`oumi-flows note`",
    "cancel_job": "`oumi-flows cancel`",
    "cancel_jobs": "`oumi-flows cancel --all`",
    "client_cwd": "the current folder",
    "collect_results": "`oumi-flows collect`",
    "compare_jobs": "`oumi-flows compare`",
    "cron": "--cron",
    "down_cluster": "`oumi-flows down-cluster`",
    "diagnose_job": "`oumi-flows diagnose`",
    "dry_run": "--dry-run",
    "get_started with topic pipelines-and-sweeps": "docs/pipelines.md and docs/sweeps.md",
    "get_budget": "`oumi-flows budget`",
    "get_config": "`oumi-flows config`",
    "get_job_logs": "`oumi-flows logs`",
    "get_job_metrics": "`oumi-flows metrics`",
    "get_job_results": "`oumi-flows results`",
    "get_job_status": "`oumi-flows show`",
    "guidance://cloud-launch": "docs/clouds.md",
    "idempotency_key": "--idempotency-key",
    "interval_seconds": "--every",
    "job_id": "id",
    "job_ids": "ids",
    "list_categories": "`oumi-flows configs`",
    "list_clusters": "`oumi-flows clusters`",
    "list_machines": "`oumi-flows machines`",
    "list_jobs": "`oumi-flows jobs`",
    "list_schedules": "`oumi-flows schedules`",
    "pipeline_path": "FILE",
    "pre_flight_check": "`oumi-flows check`",
    "preview_data": "`oumi-flows preview`",
    "retry_job": "`oumi-flows retry`",
    "run_oumi_job": "`oumi-flows run`",
    "run_pipeline": "`oumi-flows pipeline`",
    "run_sweep": "`oumi-flows sweep`",
    "schedule_id": "id",
    "schedule_job": "`oumi-flows schedule`",
    "schedule_name": "--name",
    "search_configs": "`oumi-flows configs`",
    "stop_cluster": "`oumi-flows stop-cluster`",
    "sweep_path": "FILE",
    "task_type": "--type",
    "timezone": "--timezone",
    "update_schedule": "`oumi-flows unschedule`",
    "validate_config": "`oumi-flows validate`",
    "wait_for_job": "`oumi-flows watch`",
}

# Some texts name the command in parentheses after the tool: keep one of the two.
_WORD = re.compile(
    rf"(?<![\w/.'\"-])({'|'.join(map(re.escape, WORDS))})(?![\w/-]|\.\w)"
    r"(?: \(`oumi-flows [^`]*`\))?"
)


def in_terminal_words(text: str) -> str:
    """Replace the names of tools and their arguments by those of commands and options.

    A name in quotes, or within a path, an address or a dotted key, stays.
    """
    return _WORD.sub(lambda word: WORDS[word[1]], text)
