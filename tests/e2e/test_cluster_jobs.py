"""The tiny training on a real cluster, by Slurm and by SkyPilot, through a real MCP client."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import httpx2
import psutil
import pytest
import yaml
from mcp import Client, StdioServerParameters

from flows.core.settings import Settings
from mcp_server.engine import Engine
from tests.lab.slurm_lab import SlurmLab
from tests.support.browser import CHROMIUM, log_in, opened
from tests.support.mcp_client import Session
from tests.support.prefect_records import everything_kept, kept_lately
from tests.support.stack import OUMI_FLOWS, REPOSITORY
from tests.support.trees import digests
from tests.support.waiting import eventually, eventually_sync

pytestmark = [pytest.mark.engine, pytest.mark.timeout(1800)]

TINY: Final = REPOSITORY / "examples" / "tiny"
PATIENCE_SECONDS: Final = 600.0
SECRET: Final = "correct-horse-battery"
BIG: Final = 400_000_000


@dataclass(frozen=True)
class Place:
    """Where the jobs run: one of Oumi's clouds, on a lab."""

    cloud: str
    cluster: str
    lab: SlurmLab
    keeps_logs: bool
    """Whether the log is the cluster's own file, which can be taken away."""

    @property
    def cpus(self) -> int:
        """How many a job has to ask for to have the machine to itself."""
        return self.lab.CPUS if self.cloud == "slurm" else 2

    def take_away(self) -> None:
        """Take the machine away from the jobs: for another user's job, or for good."""
        if self.cloud == "slurm":
            self.lab.slurm("sbatch", "--exclusive", "--chdir=/", "--output=/dev/null", "--wrap=:")
        else:
            self.lab.slurm("scancel", f"--user={self.lab.user}")


PLACES: Final = [
    pytest.param("slurm", marks=pytest.mark.cluster),
    pytest.param("sky-slurm", marks=pytest.mark.sky),
]


@pytest.fixture(scope="module", params=PLACES)
def place(request: pytest.FixtureRequest) -> Place:
    """Each cloud in turn."""
    if request.param == "slurm":
        lab: SlurmLab = request.getfixturevalue("slurm_lab")
        return Place("slurm", lab.cluster, lab, keeps_logs=True)
    lab = request.getfixturevalue("sky_lab")
    # SkyPilot keeps its runtime under this name in the node's /tmp.
    return Place("sky-slurm", f"tiny{os.getpid()}", lab, keeps_logs=False)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cluster") / "home"


@pytest.fixture(scope="module")
def engine(place: Place, home: Path) -> Iterator[Engine]:
    """An engine whose worker reaches the cluster."""
    environ = {**os.environ, "OUMI_FLOWS_HOME": str(home)}
    engine = Engine(Settings(home=home, engine_timeout_seconds=180), environ=environ)
    try:
        engine.up(wait_for_worker=True)
        yield engine
    finally:
        engine.down()


@pytest.fixture
async def session(engine: Engine, home: Path) -> AsyncIterator[Session]:
    environ = {**os.environ, "OUMI_FLOWS_HOME": str(home)}
    server = StdioServerParameters(command=str(OUMI_FLOWS), args=["mcp"], env=environ)
    async with Client(server, read_timeout_seconds=120) as client:
        yield Session(client)


@pytest.fixture
def python(place: Place) -> str:
    """An interpreter that the cluster's user can run, and that can import what we have."""
    for candidate in (sys.executable, shutil.which("python3", path="/usr/bin:/usr/local/bin")):
        script = f"import sys; sys.exit(sys.version_info[:2] != {sys.version_info[:2]})"
        command = ["runuser", "-u", place.lab.user, "--", str(candidate), "-c", script]
        if not subprocess.run(command, check=False, capture_output=True).returncode:
            return str(candidate)
    pytest.skip("the cluster's user can run no interpreter of this version")


def tiny_job(folder: Path, place: Place, python: str, *, max_steps: int) -> Path:
    """A job config that makes the tiny model on the cluster and trains it there."""
    for name in ("make_tiny.py", "train.yaml"):
        shutil.copy(TINY / name, folder)
    oumi = f'{python} -c "from oumi.cli.main import run; run()"'
    job = {
        "name": "tiny",
        "resources": {"cloud": place.cloud, "cpus": "2", "memory": "4"},
        "envs": {
            "PYTHONPATH": sysconfig.get_path("purelib"),
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
            "DO_NOT_TRACK": "1",
            "MY_PASSWORD": SECRET,
        },
        "setup": f"{python} make_tiny.py data",
        "run": f'echo "MY_PASSWORD is $MY_PASSWORD"\n'
        f"{oumi} train -c train.yaml --training.max_steps {max_steps}",
    }
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump(job))
    return path


async def submit(session: Session, place: Place, config: Path) -> str:
    """Submit the training, once the plan says what is expected; its id."""
    plan = await asked(session, place, config)
    assert plan["cluster_name"] == place.cluster
    assert plan["sync"]["files"] == 3
    assert "hourly price unknown" in plan["summary"]
    return (await asked(session, place, config, dry_run=False))["job_id"]


async def asked(session: Session, place: Place, config: Path, **how: object) -> dict[str, Any]:
    """What `run_oumi_job` says of a config for the cluster."""
    return await session.call(
        "run_oumi_job",
        config_path=str(config),
        client_cwd=str(config.parent),
        cloud=place.cloud,
        cluster_name=place.cluster,
        **how,
    )


async def reached(session: Session, job_id: str, wanted: Any) -> dict[str, Any]:
    async def look() -> dict[str, Any] | None:
        status = await session.call("get_job_status", job_id=job_id)
        if wanted(status):
            return status
        assert not status["is_done"], status
        return None

    return await eventually(look, timeout=PATIENCE_SECONDS, interval=0.5)


async def answered(session: Session, tool: str, **arguments: object) -> dict[str, Any]:
    """The answer of a tool that says to call again while a busy cluster does not answer it."""

    async def once() -> dict[str, Any] | None:
        result = await session.client.call_tool(tool, arguments)
        if result.is_error and "TIMEOUT: " in str(result.content):
            return None
        assert not result.is_error, result.content
        return result.structured_content

    return await eventually(once, timeout=PATIENCE_SECONDS)


async def told_of(session: Session, place: Place, job: dict[str, Any], config: Path) -> str:
    """What tools say of a job that has ended, by its launcher's id too."""
    there = {"cloud": place.cloud, "cluster_name": place.cluster}
    known_there = {"job_id": job["launcher_job_id"], **there}
    answers = [
        job,
        await session.call("list_jobs"),
        await answered(session, "get_job_status", **known_there),
        await answered(session, "get_job_logs", lines=2000, **known_there),
        await answered(session, "adopt_job", launcher_job_id=job["launcher_job_id"], **there),
        await answered(session, "list_clusters", cloud=place.cloud),
        await session.call("compare_jobs", a=job["job_id"], b=job["job_id"]),
        await session.call("validate_config", config=str(config), task_type="job", client_cwd="/"),
    ]
    return json.dumps(answers)


async def shown_by_prefect(
    engine: Engine, status: dict[str, Any], state: str, screenshots: Path
) -> None:
    """See that the API and the page of a run show the state, and no record the secret."""
    connection = engine.connection()
    async with httpx2.AsyncClient(
        base_url=connection.api_url, headers=dict(connection.headers), timeout=30
    ) as api:
        run = (await api.get(f"/flow_runs/{status['job_id']}")).json()
    assert run["state"]["name"] == state
    kept = await everything_kept(connection, status["job_id"], attempts=1)
    assert "MY_PASSWORD is ***" in kept
    assert SECRET not in kept
    assert SECRET not in await kept_lately(connection)
    if CHROMIUM is None:
        return
    async with opened(status["url"]) as page:
        await log_in(page, connection)
        await page.get_by_text(status["name"]).first.wait_for()
        await page.get_by_text(state, exact=True).first.wait_for()
        await page.screenshot(path=screenshots / f"{status['cloud']}-{state.lower()}.png")
        assert SECRET not in await page.content()


async def test_the_tiny_training_finishes_on_the_cluster(
    session: Session, engine: Engine, place: Place, python: str, tmp_path: Path, screenshots: Path
) -> None:
    config = await asyncio.to_thread(tiny_job, tmp_path, place, python, max_steps=60)
    job_id = await submit(session, place, config)
    page = await session.call("get_job_logs", job_id=job_id, lines=1)
    cursor, seen = page["next_cursor"], page["logs"]
    ended = await reached(session, job_id, lambda status: status["is_done"])
    print(ended["summary"])
    assert (ended["state"], ended["termination_reason"]) == ("succeeded", "completed")
    assert SECRET not in await told_of(session, place, ended, config)
    assert (ended["progress"]["step"], ended["progress"]["max_steps"]) == (60, 60)
    assert ended["progress"]["loss"] < 2
    await shown_by_prefect(engine, ended, "Completed", screenshots)
    # The log is here, whole, also when the cluster has forgotten the job and its log.
    if place.keeps_logs:
        await asyncio.to_thread(shutil.rmtree, place.lab.home / "oumi_slurm_logs")
    while True:
        page = await session.call("get_job_logs", job_id=job_id, lines=2000, cursor=cursor)
        cursor, seen = page["next_cursor"], f"{seen}\n{page['logs']}"
        if page["at_end"]:
            break
    assert "MY_PASSWORD is ***" in seen
    assert SECRET not in seen
    assert seen.count("'step': 60") + seen.count("'step': '60'") >= 1


async def test_the_tiny_training_is_cancelled_on_the_cluster(
    session: Session, engine: Engine, place: Place, python: str, tmp_path: Path, screenshots: Path
) -> None:
    config = await asyncio.to_thread(tiny_job, tmp_path, place, python, max_steps=100_000)
    job_id = await submit(session, place, config)
    running = await reached(session, job_id, lambda status: (status["progress"]["step"] or 0) > 0)
    print(running["summary"])
    assert running["state"] == "running"
    await session.call("cancel_job", job_id=job_id)
    ended = await reached(session, job_id, lambda status: status["is_done"])
    print(ended["summary"])
    assert (ended["state"], ended["termination_reason"]) == ("cancelled", "user_cancelled")
    await shown_by_prefect(engine, ended, "Cancelled", screenshots)
    await eventually(lambda: not trainings_of(place.lab.user), timeout=30)


def trainings_of(user: str) -> list[psutil.Process]:
    """The trainings that a user of this machine runs."""
    return [
        process
        for process in psutil.process_iter(["username", "cmdline"])
        if process.info["username"] == user and "train" in (process.info["cmdline"] or [])
    ]


def write_job(folder: Path, place: Place, script: str) -> Path:
    """A job config of a script that has the machine to itself."""
    job = {
        "name": "taken",
        "resources": {"cloud": place.cloud, "cpus": str(place.cpus), "memory": "1"},
        "run": script,
    }
    path = folder / "taken.yaml"
    path.write_text(yaml.safe_dump(job))
    return path


def comes_back(lab: SlurmLab, name: str) -> str:
    """A script that stays until it is ended, and ends at once the second time."""
    flag = lab.home / name
    return f'echo began\nif [ -e "{flag}" ]; then exit 0; fi\ntouch "{flag}"\nsleep 600'


async def test_a_job_whose_machine_is_taken_away_is_launched_again(
    session: Session, place: Place, tmp_path: Path
) -> None:
    script = comes_back(place.lab, "taken")
    config = write_job(tmp_path, place, f"#SBATCH --partition=cancelled\n{script}")
    submitted = await asked(session, place, config, dry_run=False, max_retries=1)
    job_id = submitted["job_id"]
    await eventually((place.lab.home / "taken").exists, timeout=PATIENCE_SECONDS)
    await asyncio.to_thread(place.take_away)
    ended = await reached(session, job_id, lambda status: status["is_done"])
    print(ended["summary"])
    assert (ended["state"], ended["attempt"]) == ("succeeded", 2)


async def test_a_job_that_slurm_puts_back_into_its_queue_stays_the_same_job(
    session: Session, place: Place, tmp_path: Path
) -> None:
    if place.cloud != "slurm":
        pytest.skip("SkyPilot's jobs are not Slurm's")
    script = comes_back(place.lab, "requeued")
    config = write_job(tmp_path, place, f"#SBATCH --partition=requeued\n{script}")
    submitted = await asked(session, place, config, dry_run=False)
    job_id = submitted["job_id"]
    await eventually((place.lab.home / "requeued").exists, timeout=PATIENCE_SECONDS)
    running = await reached(session, job_id, lambda status: status["state"] == "running")
    await asyncio.to_thread(place.take_away)
    waiting = await reached(session, job_id, lambda status: status["state"] == "launching")
    print(waiting["summary"])
    # Slurm lets a job that it put back wait for two minutes.
    number = running["launcher_job_id"]
    begin = ("scontrol", "update", f"jobid={number}", "starttime=now")
    await asyncio.to_thread(place.lab.slurm, *begin)
    ended = await reached(session, job_id, lambda status: status["is_done"])
    assert (ended["state"], ended["attempt"]) == ("succeeded", 1)
    assert ended["launcher_job_id"] == number
    logs = await session.call("get_job_logs", job_id=job_id, lines=50)
    assert logs["logs"].count("began") == 2


async def test_a_job_that_somebody_submitted_by_hand_is_seen_adopted_and_ended(
    session: Session, place: Place
) -> None:
    if place.cloud != "slurm":
        pytest.skip("what is submitted by hand is submitted to Slurm")
    slurm_lab = place.lab
    hold = ["sbatch", "--parsable", "--wrap", "echo by hand; sleep 600"]
    as_user = ["runuser", "-u", slurm_lab.user, "--"]
    environ = {**os.environ, "SLURM_CONF": str(slurm_lab.root / "etc" / "slurm.conf")}
    submitted = await asyncio.to_thread(
        subprocess.run,
        [*as_user, *hold],
        cwd=slurm_lab.home,
        env=environ,
        check=True,
        capture_output=True,
        text=True,
    )
    theirs = {"cloud": "slurm", "cluster_name": slurm_lab.cluster}
    number = submitted.stdout.strip()

    async def runs() -> bool:
        status = await session.call("get_job_status", job_id=number, **theirs)
        return status["state"] == "running"

    await eventually(runs, timeout=PATIENCE_SECONDS, interval=0.5)

    async def said() -> bool:
        page = await session.call("get_job_logs", job_id=number, **theirs)
        return page["logs"] == "by hand"

    await eventually(said, timeout=PATIENCE_SECONDS, interval=0.5)
    adopted = await session.call("adopt_job", launcher_job_id=number, **theirs)
    again = await session.call("adopt_job", launcher_job_id=number, **theirs)
    assert adopted["job_id"] == again["job_id"]
    job_id = adopted["job_id"]
    await reached(session, job_id, lambda status: status["state"] == "running")
    await session.call("cancel_job", job_id=number, **theirs)
    ended = await reached(session, job_id, lambda status: status["is_done"])
    assert ended["state"] == "cancelled"
    assert not slurm_lab.slurm("squeue", "-h").strip()


async def test_results_on_the_cluster_are_listed_and_copied_with_equal_checksums(
    session: Session, place: Place, python: str, tmp_path: Path
) -> None:
    config = await asyncio.to_thread(tiny_job, tmp_path, place, python, max_steps=60)
    job_id = await submit(session, place, config)
    ended = await reached(session, job_id, lambda status: status["is_done"])
    assert ended["state"] == "succeeded", ended
    found = await answered(session, "get_job_results", job_id=job_id)
    print(found["summary"])
    checkpoints = [(one["step"], one["whole"]) for one in found["checkpoints"]]
    assert checkpoints == [(60, True), (40, True), (20, True)]
    assert found["best_checkpoint"]["metric"] == "eval_loss"
    assert [one["kind"] for one in found["models"] if one["path"].endswith("runs/train")] == [
        "full"
    ]
    copy = await session.call(
        "collect_results", job_id=job_id, into=str(tmp_path / "copy"), what=["runs"]
    )
    end = await reached(session, copy["job_id"], lambda status: status["is_done"])
    print(end["message"])
    assert (end["state"], end["progress"]["percent"]) == ("succeeded", 100.0), end
    await sees_the_training(session, job_id)
    if place.cloud == "slurm":
        usage = (await session.call("get_job_status", job_id=job_id))["usage"]
        print(usage)
        assert usage["ram_peak_bytes"] > 100_000_000
        assert usage["cpu_seconds"] > 1
        assert (usage["start"], usage["gpus"]) == (None, [])
    theirs = await asyncio.to_thread(digests, Path(found["folders"][0]) / "runs")
    ours = await asyncio.to_thread(digests, tmp_path / "copy" / "runs")
    assert ours == theirs
    assert len(ours) > 20


async def sees_the_training(session: Session, job_id: str) -> None:
    """Check the curves and the health of a training on a cluster, of 60 steps."""
    result = await session.client.call_tool("get_job_metrics", {"job_ids": [job_id]})
    assert not result.is_error, result.content
    assert [part.type for part in result.content] == ["text", "image"]
    assert result.structured_content is not None
    (of_job,) = result.structured_content["jobs"]
    print(result.structured_content["summary"])
    keys = {one["key"]: one for one in of_job["keys"]}
    assert {"loss", "eval_loss", "learning_rate", "grad_norm"} <= set(keys)
    assert keys["loss"]["last"]["step"] == 60
    assert keys["loss"]["last"]["value"] < keys["loss"]["first"]["value"]
    diagnosis = await session.call("diagnose_job", job_id=job_id)
    assert (diagnosis["health"], diagnosis["findings"]) == ("ok", [])


FAILING: Final = """\
for step in $(seq 1 30); do echo "{'loss': 2.$((90 - step)), 'step': $step}"; done
echo "{'loss': nan, 'step': 31}"
cat >&2 <<'TEXT'
Traceback (most recent call last):
  File "train.py", line 7, in <module>
    trainer.train()
torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity \
of 79.15 GiB of which 1.10 GiB is free.
TEXT
exit 1
"""


async def test_a_training_that_fails_on_the_cluster_is_diagnosed(
    session: Session, place: Place, tmp_path: Path
) -> None:
    config = write_job(tmp_path, place, FAILING)
    job_id = (await asked(session, place, config, dry_run=False))["job_id"]
    ended = await reached(session, job_id, lambda status: status["is_done"])
    assert (ended["state"], ended["termination_reason"]) == ("failed", "out_of_memory"), ended
    metrics = await session.call("get_job_metrics", job_ids=[job_id], image=False)
    loss = next(one for one in metrics["jobs"][0]["keys"] if one["key"] == "loss")
    print(loss)
    assert loss["last"] == {"step": 31, "value": "nan"}
    diagnosis = await session.call("diagnose_job", job_id=job_id)
    print(diagnosis)
    assert diagnosis["health"] == "bad"
    assert {one["kind"] for one in diagnosis["findings"]} >= {"out_of_memory"}
    assert "2.00 GiB" in json.dumps(diagnosis["findings"])


async def test_a_copy_that_is_killed_halfway_goes_on_where_it_stopped(
    session: Session, place: Place, tmp_path: Path
) -> None:
    config = write_job(tmp_path, place, f"mkdir out; head -c {BIG} /dev/urandom >out/big.bin")
    submitted = await asked(session, place, config, dry_run=False)
    job_id = submitted["job_id"]
    await reached(session, job_id, lambda status: status["is_done"])
    into = tmp_path / "copy"
    staged = into / ".oumi-flows" / job_id / "out" / "big.bin"

    def kill_halfway() -> bool:
        if not staged.is_file() or not 0 < staged.stat().st_size < BIG:
            return False
        copies = [one for one in psutil.process_iter(["name", "cmdline"]) if _copies(one, into)]
        for process in copies:
            process.kill()
        return bool(copies)

    def find_and_kill() -> None:
        eventually_sync(kill_halfway, timeout=PATIENCE_SECONDS, interval=0.0)

    killing = asyncio.create_task(asyncio.to_thread(find_and_kill))
    copy = await session.call("collect_results", job_id=job_id, into=str(into))
    await killing
    part = staged.stat().st_size
    print(f"killed after {part:,} of {BIG:,} bytes")
    assert 0 < part < BIG
    end = await reached(session, copy["job_id"], lambda status: status["is_done"])
    print(end["message"])
    assert end["state"] == "succeeded", end
    logs = await session.call("get_job_logs", job_id=copy["job_id"])
    assert "Trying again" in logs["logs"]
    found = await answered(session, "get_job_results", job_id=job_id)
    theirs = await asyncio.to_thread(digests, Path(found["folders"][0]) / "out")
    assert await asyncio.to_thread(digests, into / "out") == theirs


async def test_the_log_of_a_launch_is_shown_while_it_lasts_and_when_it_fails(
    session: Session, place: Place, tmp_path: Path
) -> None:
    if place.cloud == "slurm":
        pytest.skip("sbatch has no log")
    config = write_job(tmp_path, place, "echo began")
    elsewhere = replace(place, cluster=f"other{os.getpid()}")
    begun = (await asked(session, elsewhere, config, dry_run=False))["job_id"]

    async def shows_the_launch() -> bool:
        page = await session.call("get_job_logs", job_id=begun)
        return "Launching" in page["logs"]

    await eventually(shows_the_launch, timeout=PATIENCE_SECONDS, interval=0.5)
    status = await session.call("get_job_status", job_id=begun)
    print(status["state"], (await session.call("get_job_logs", job_id=begun))["logs"])
    assert status["state"] == "launching"
    await reached(session, begun, lambda status: status["is_done"])
    page = await session.call("get_job_logs", job_id=begun)
    assert page["logs"].splitlines()[-1] == "began"
    job = yaml.safe_load(config.read_text())
    job["resources"]["cpus"] = "512"
    config.write_text(yaml.safe_dump(job))
    nowhere = replace(place, cluster=f"never{os.getpid()}")
    failing = (await asked(session, nowhere, config, dry_run=False))["job_id"]
    ended = await reached(session, failing, lambda status: status["is_done"])
    print(ended["message"])
    assert (ended["state"], ended["termination_reason"]) == ("failed", "launch_failed")
    page = await session.call("get_job_logs", job_id=failing)
    print(page)
    assert page["logs"].strip()
    print(await session.call("diagnose_job", job_id=failing))


async def test_a_cluster_is_taken_down_and_seen_to_be_gone(
    session: Session, place: Place, tmp_path: Path
) -> None:
    if place.cloud == "slurm":
        pytest.skip("a Slurm cluster is not ours to take down")
    named = {"cloud": place.cloud, "cluster_name": place.cluster}
    listed = await session.call("list_clusters", cloud=place.cloud)
    assert place.cluster in [cluster["cluster_name"] for cluster in listed["clusters"]]
    config = write_job(tmp_path, place, "mkdir out; echo kept >out/file")
    submitted = await asked(session, place, config, dry_run=False)
    job_id, name = submitted["job_id"], submitted["name"]
    await reached(session, job_id, lambda status: status["is_done"])
    preview = await session.call("down_cluster", **named)
    print(preview["summary"])
    assert "IRREVERSIBLE" in preview["summary"]
    assert f"{name} (succeeded)" in preview["summary"]
    copy = await session.call("collect_results", job_id=job_id, into=str(tmp_path / "copy"))
    end = await reached(session, copy["job_id"], lambda status: status["is_done"])
    assert end["state"] == "succeeded", end
    assert (tmp_path / "copy" / "out" / "file").read_text() == "kept\n"
    preview = await session.call("down_cluster", **named)
    assert f"{name} (" not in preview["summary"]

    async def gone() -> bool:
        given = {**named, "confirm": True, "user_confirmation": "DOWN"}
        result = await session.client.call_tool("down_cluster", given)
        listed = await session.call("list_clusters", cloud=place.cloud)
        names = [cluster["cluster_name"] for cluster in listed["clusters"]]
        print(result.content, names)
        return place.cluster not in names

    await eventually(gone, timeout=PATIENCE_SECONDS, interval=2)


def _copies(process: psutil.Process, into: Path) -> bool:
    """Whether a process is an rsync of ours that writes into a folder."""
    return process.info["name"] == "rsync" and any(
        str(into) in part for part in process.info["cmdline"] or ()
    )
