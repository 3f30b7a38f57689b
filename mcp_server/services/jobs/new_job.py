"""The arguments of a job: declared here once, for tools, commands, pipelines and sweeps.

docs/contributing.md says how to add one.
"""

from typing import Annotated, Final, Literal

from pydantic import BeforeValidator, Field

from flows.core.budget.amounts import LIMIT_MAX
from flows.core.models import GpuCount, NotifyOn, OverrideValue, RetryCause, StopOn, Value
from flows.core.names import LOCAL_CLOUD
from mcp_server.declared_arguments import Argument, Option


def _in_lower_case(value: object) -> object:
    return value.strip().lower() if isinstance(value, str) else value


CommandName = Annotated[
    Literal["train", "analyze", "synth", "evaluate", "eval", "infer", "tune", "quantize", "judge"],
    BeforeValidator(_in_lower_case),
]

NOTIFY: Final = Option(
    "Receiver of a notification at the end: a URL, or a Prefect block, type/name.",
    metavar="RECEIVER",
)
NOTIFY_ON: Final = Option(
    "end: whenever it ends; failure: only if it failed or crashed; bad: also when the health of "
    "its training turns bad.",
    metavar="WHEN",
)


class NewJob(Value):
    """A job as a person requests it, unchecked.

    The bounds in an `Argument` hold for tools and commands; a pipeline or a sweep may go beyond
    them.
    """

    config_path: Annotated[
        str,
        Argument(
            "Oumi config: path, oumi://... or alias.",
            Option(
                "Oumi config: a recipe or a job config (YAML).",
                metavar="CONFIG",
                positional=True,
                optional=True,
            ),
            max_length=4096,
        ),
    ] = ""
    client_cwd: Annotated[str, Argument("Absolute folder.", max_length=4096)] = ""
    from_job: Annotated[
        str | None,
        Argument(
            'Job to run again; overrides {"training.max_steps": "+200"} continue it.',
            Option(
                "Instead of CONFIG: a job whose config and arguments to use again; "
                "-s training.max_steps=+200 continues its training.",
                names=("--from",),
                metavar="ID",
            ),
            max_length=200,
        ),
    ] = None
    command: Annotated[
        str,
        Argument(
            "Not for job configs.",
            Option(
                "Oumi command: train, analyze, synth, evaluate, infer, tune, quantize or judge; "
                "ignored for a job config.",
                names=("--command", "-c"),
            ),
            takes=CommandName,
        ),
    ] = "train"
    job_name: Annotated[
        str | None,
        Argument("For people.", Option("Readable name of the job."), max_length=100),
    ] = None
    cloud: Annotated[
        str,
        Argument(
            "Oumi cloud; any but local needs a job config.", Option("Oumi cloud."), max_length=64
        ),
    ] = LOCAL_CLOUD
    cluster_name: Annotated[
        str,
        Argument(
            "Empty: the cloud's default.",
            Option("Cluster; empty: the cloud's default."),
            max_length=128,
        ),
    ] = ""
    skip_preflight: Annotated[
        bool, Argument("Start without checks.", Option("Start without the pre-flight checks."))
    ] = False
    overrides: Annotated[
        dict[str, OverrideValue],
        Argument(
            'Oumi keys, e.g. {"training.max_steps": 60}.',
            Option(
                "Replace a value of the config, as in training.max_steps=60; repeatable.",
                names=("--set", "-s"),
                metavar="KEY=VALUE",
            ),
            max_length=200,
        ),
    ] = Field(default_factory=dict[str, OverrideValue])
    gpus: Annotated[
        GpuCount | None,
        Argument(
            'GPUs here, a process on each; or "all".',
            Option(
                "GPUs of this machine for the job: a number, or all. A training has a process on "
                "each. Default: one.",
                metavar="COUNT",
            ),
        ),
    ] = None
    envs: Annotated[
        dict[str, str],
        Argument(
            "Secrets stay private.",
            Option(
                "Environment variable of the job, as in NAME=VALUE; repeatable.",
                names=("--env", "-e"),
                metavar="NAME=VALUE",
            ),
            max_length=100,
        ),
    ] = Field(default_factory=dict[str, str])
    max_retries: Annotated[
        int,
        Field(ge=0, le=100),
        Argument(
            "After a lost machine.",
            Option("Extra attempts after preemption, a lost node, a failed launch or a kill."),
            ge=0,
            le=100,
        ),
    ] = 0
    retry_on: Annotated[
        list[RetryCause],
        Argument(
            "Extra causes to retry.",
            Option("Extra cause to retry; repeatable.", metavar="CAUSE"),
            max_length=2,
        ),
    ] = Field(default_factory=list[RetryCause])
    timeout_seconds: Annotated[
        float | None,
        Field(gt=0),
        Argument(
            "Limit of one attempt.",
            Option("Time limit of each attempt, which then ends as timed_out.", metavar="N"),
            ge=1,
            le=315_576_000,
        ),
    ] = None
    max_cost: Annotated[
        float | None,
        Field(ge=0),
        Argument(
            "US dollars.",
            Option("US dollars that the job may cost; it is cancelled there.", metavar="DOLLARS"),
            ge=0,
            le=LIMIT_MAX,
        ),
    ] = None
    max_gpu_hours: Annotated[
        float | None,
        Field(ge=0),
        Argument(
            "Or hours.",
            Option(
                "GPU-hours that the job may take; it is cancelled there. Without GPUs: hours.",
                metavar="HOURS",
            ),
            ge=0,
            le=LIMIT_MAX,
        ),
    ] = None
    stop_on: Annotated[
        list[StopOn],
        Argument(
            "Stop it at this health.",
            Option("Stop the job at this health of its training: bad.", metavar="HEALTH"),
            max_length=1,
        ),
    ] = Field(default_factory=list[StopOn])
    notify: Annotated[
        str | None,
        Argument(
            "URL, or Prefect block type/name.",
            NOTIFY,
            min_length=1,
            max_length=2000,
        ),
    ] = None
    notify_on: Annotated[NotifyOn, Argument("bad: failures and bad health.", NOTIFY_ON)] = (
        NotifyOn.END
    )
    autostop_minutes: Annotated[
        int | None,
        Field(ge=1),
        Argument(
            "Idle minutes until it stops.",
            Option("Stop the cloud's cluster after this many idle minutes.", metavar="N"),
            ge=1,
            le=525_600,
        ),
    ] = None
    own_output: Annotated[
        bool,
        Argument(
            "Write to a folder of its own.",
            Option("Write to a new folder below the config's output."),
        ),
    ] = False
