"""Jobs with secret variables: private files hold the values, and requests refer to them."""

import os
from collections.abc import Mapping
from typing import Any, cast

from flows.core.configs.clouds import is_local
from flows.core.configs.reader import ConfigFile
from flows.core.private_envs import PrivateEnvs
from flows.core.settings import Settings
from mcp_server.services.jobs.new_job import NewJob
from mcp_server.services.jobs.submitting import CheckedJob, check_job


def check_private_job(new: NewJob, config: ConfigFile | None = None) -> CheckedJob:
    """Check a job as `check_job`, with its secret variables in private files.

    Args:
        new: The job.
        config: Its config, if that is the copy of another job's.

    Raises:
        OumiFlowsError: As `check_job`.
    """
    hidden = new.model_copy(update={"envs": hide_secrets(new.envs)})
    return carry_tokens(check_job(hidden, config))


def hide_secrets(envs: Mapping[str, str]) -> dict[str, str]:
    """Keep the secrets among variables in private files, and put references in their places.

    Raises:
        InvalidArgument: A name or a value cannot be set.
    """
    return PrivateEnvs(Settings().private_envs_dir).hide(envs)


def carry_tokens(job: CheckedJob) -> CheckedJob:
    """Give a job on this machine the tokens of the client that submits it.

    An engine that runs already has the environment of the client that started it.
    """
    if not is_local(job.plan.cloud):
        return job
    own = job.config.data.get("envs")
    set_by_config: set[Any] = set(cast("dict[Any, Any]", own)) if isinstance(own, dict) else set()
    carried = PrivateEnvs(Settings().private_envs_dir).carry(os.environ)
    kept = {name: text for name, text in carried.items() if name not in set_by_config}
    request = job.request.model_copy(update={"envs": kept | job.request.envs})
    return job._replace(request=request) if kept else job
