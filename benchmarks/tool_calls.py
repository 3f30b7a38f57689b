"""A call of each tool that works on any engine."""

from pathlib import Path
from typing import Any

HUB_CONFIG = """\
model:
  model_name: HuggingFaceTB/SmolLM2-135M-Instruct
data:
  train:
    datasets:
      - dataset_name: tatsu-lab/alpaca
training:
  trainer_type: TRL_SFT
  output_dir: runs/sft
"""


def calls(folder: Path, job_id: str) -> dict[str, dict[str, Any]]:
    """The arguments of a call of each tool; what changes anything refers to what is not there.

    Args:
        folder: Has ``hub.yaml`` (`HUB_CONFIG`) and ``quick.yaml``, a job config.
        job_id: A job.
    """
    cwd = str(folder)
    hub = {"config": "hub.yaml", "client_cwd": cwd}
    run = {"config_path": "hub.yaml", "client_cwd": cwd}
    return {
        "run_oumi_job": run,
        "get_job_status": {"job_id": job_id},
        "wait_for_job": {"job_id": job_id, "timeout_seconds": 1},
        "get_job_logs": {"job_id": job_id},
        "cancel_job": {"job_id": job_id},
        "cancel_jobs": {},
        "list_jobs": {},
        "annotate_job": {"job_id": job_id, "note": "a base line"},
        "compare_jobs": {"a": job_id, "b": job_id},
        "get_job_results": {"job_id": job_id},
        "collect_results": {"job_id": "00000000", "into": str(folder / "results")},
        "retry_job": {"job_id": "00000000"},
        "get_budget": {},
        "adopt_job": {"cloud": "gcp", "cluster_name": "none", "launcher_job_id": "1"},
        "run_pipeline": {"client_cwd": cwd, "steps": [{"name": "a", "config_path": "quick.yaml"}]},
        "run_sweep": {"client_cwd": cwd, "sweep_path": "none.yaml"},
        "list_clusters": {},
        "list_machines": {},
        "stop_cluster": {"cloud": "gcp", "cluster_name": "none"},
        "down_cluster": {"cloud": "gcp", "cluster_name": "none"},
        "validate_config": {**hub, "task_type": "training"},
        "pre_flight_check": hub,
        "get_docs": {"query": "TrainingParams"},
        "list_modules": {},
        "search_configs": {"query": ["sft"]},
        "get_config": {"path": "starter/smollm2/135m_sft_full.yaml"},
        "list_categories": {},
        "schedule_job": {**run, "cron": "0 2 * * *"},
        "list_schedules": {},
        "update_schedule": {"schedule_id": "none", "action": "pause"},
        "get_started": {},
    }
