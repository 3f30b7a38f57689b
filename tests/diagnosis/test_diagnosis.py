"""What a diagnosis says: its health, its evidence, and what to try."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.core.configs.schema import ConfigType, load_schema
from flows.core.diagnosis.advice import advise, save_gpu_memory
from flows.core.diagnosis.evidence import ConfigFacts, Ending, Evidence
from flows.core.diagnosis.findings import Diagnosis, Finding, FindingKind
from flows.core.diagnosis.rules import diagnose
from flows.core.states import Health, TerminationReason
from flows.core.training.series import Series
from tests.diagnosis.corpus import Case, read_cases
from tests.diagnosis.trainings import Training

CUDA = (
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total "
    "capacity of 79.11 GiB of which 1.02 GiB is free."
)
METRICS = [
    "loss", "eval_loss", "grad_norm", "learning_rate", "reward", "kl", "num_tokens",
    "gpu0_utilisation", "rewards/chosen",
]  # fmt: skip
FAILED = Ending(TerminationReason.NONZERO_EXIT, 1)


def failed(*log: str, config: ConfigFacts | None = None) -> Finding:
    config = config or ConfigFacts()
    diagnosis = diagnose(Evidence(now=0.0, log=log, ended=FAILED, config=config))
    assert diagnosis.health is Health.BAD
    (finding,) = diagnosis.findings
    return finding


def test_a_training_without_a_record_is_of_unknown_health() -> None:
    diagnosis = diagnose(Evidence(now=0.0, is_running=True))
    assert (diagnosis.health, diagnosis.findings) == (Health.UNKNOWN, [])


def test_a_training_in_which_no_rule_finds_anything_is_ok() -> None:
    loss = Series.of((step, float(step), 2.0 - step / 100) for step in range(50))
    diagnosis = diagnose(Evidence(now=50.0, is_running=True, series={"loss": loss}))
    assert (diagnosis.health, diagnosis.findings) == (Health.OK, [])


def test_a_finding_is_written_with_the_field_try() -> None:
    loss = Series.of((step, float(step), 2.0) for step in range(5))
    loss = loss._replace(values=np.where(loss.steps > 2, np.nan, loss.values))
    diagnosis = diagnose(Evidence(now=5.0, series={"loss": loss}))
    written = json.loads(diagnosis.model_dump_json())
    (finding,) = written["findings"]
    assert set(finding) == {"kind", "severity", "evidence", "try"}
    assert "step 3" in finding["evidence"]
    assert "2 at step 2" in finding["evidence"]
    assert Diagnosis.model_validate(written) == diagnosis
    properties = Finding.model_json_schema(mode="serialization")["properties"]
    assert list(properties) == ["kind", "severity", "evidence", "try"]


def test_half_the_batch_keeps_the_effective_batch() -> None:
    config = ConfigFacts(per_device_batch=8, accumulation=2, model_max_length=4096)
    finding = failed(CUDA, config=config)
    assert finding.kind is FindingKind.OUT_OF_MEMORY
    assert "2.00 GiB" in finding.evidence
    assert finding.try_[0] == (
        "Set training.per_device_train_batch_size=4 and training.gradient_accumulation_steps=4: "
        "the effective batch stays the same."
    )
    assert finding.try_[1] == "Set training.enable_gradient_checkpointing=true."


@pytest.mark.parametrize("batch", [1, 2, 3, 5, 8, 96])
def test_a_smaller_batch_is_never_an_effective_one_below_the_old(batch: int) -> None:
    config = ConfigFacts(per_device_batch=batch, accumulation=3, gradient_checkpointing=True)
    first = save_gpu_memory(config)[0]
    if batch == 1:
        assert "per_device_train_batch_size" not in first
        return
    numbers = [int(word.split("=")[1].strip(":")) for word in first.split() if "=" in word]
    assert numbers[0] < batch
    assert numbers[0] * numbers[1] >= batch * 3


@pytest.mark.parametrize("reason", [TerminationReason.USER_CANCELLED, TerminationReason.COMPLETED])
def test_the_log_of_a_job_that_did_not_fail_is_no_evidence(reason: TerminationReason) -> None:
    diagnosis = diagnose(Evidence(now=0.0, log=[CUDA], ended=Ending(reason)))
    assert diagnosis.findings == []


def test_a_killed_job_that_ran_out_of_memory_is_said_to_have() -> None:
    ended = Ending(TerminationReason.OUT_OF_MEMORY, signal=9)
    (finding,) = diagnose(Evidence(now=0.0, log=["step 5"], ended=ended)).findings
    assert finding.kind is FindingKind.OUT_OF_MEMORY
    assert "SIGKILL" in finding.evidence


@pytest.mark.parametrize("phase", ["evaluation", "checkpoint", "download", "dataset map"])
def test_silence_outside_of_training_is_no_stall(phase: str) -> None:
    loss = Series.of((step, float(step), 2.0 - step / 100) for step in range(50))
    silent = Evidence(now=9000.0, is_running=True, series={"loss": loss})
    assert [one.kind for one in diagnose(silent).findings] == [FindingKind.STALLED]
    assert diagnose(replace(silent, phase=phase)).findings == []
    events = [{"kind": "phase", "phase": phase, "at": 50.0}]
    assert diagnose(replace(silent, events=events)).findings == []


def test_a_training_that_has_made_all_steps_is_no_stall() -> None:
    loss = Series.of((step, float(step), 2.0 - step / 100) for step in range(50))
    events = [{"kind": "begin", "step": 0, "max_steps": 49, "at": -1.0}]
    done = Evidence(now=9000.0, is_running=True, series={"loss": loss}, events=events)
    assert diagnose(done).findings == []


@settings(max_examples=200, deadline=None)
@given(
    values=st.lists(st.floats(width=64), max_size=60),
    names=st.lists(st.sampled_from(METRICS), max_size=4),
    jump=st.integers(0, 5),
    log=st.lists(st.text(max_size=40), max_size=5),
    is_running=st.booleans(),
)
def test_any_record_can_be_diagnosed(
    values: list[float], names: list[str], jump: int, log: list[str], is_running: bool
) -> None:
    rows = [(at * jump, float(at), value) for at, value in enumerate(values)]
    series = {name: Series.of(rows[number:]) for number, name in enumerate(names)}
    ended = None if is_running else FAILED
    diagnose(
        Evidence(now=1e9, is_running=is_running, series=series, usage=series, log=log, ended=ended)
    )


def test_a_job_that_was_stopped_for_its_time_limit_may_have_stalled() -> None:
    loss = Series.of((step, float(step), 2.0 - step / 100) for step in range(50))
    ended = Ending(TerminationReason.TIMED_OUT)
    stopped = Evidence(now=9000.0, series={"loss": loss}, ended=ended)
    assert [one.kind for one in diagnose(stopped).findings] == [FindingKind.STALLED]


def test_a_loss_that_is_not_finite_hides_its_consequences() -> None:
    t = Training(np.random.default_rng(0), 200)
    t.log("loss", np.where(t.x < 0.5, 2.0, 60.0))
    t.norms()
    t.values["loss"][-20:] = np.inf
    assert [one.kind for one in diagnose(t.evidence()).findings] == [FindingKind.NOT_FINITE]


KEY = re.compile(r"\b(?:training|model|peft|fsdp|data)(?:\.[a-z_]+)+")
ADVISED = {
    FindingKind.DISK_FULL,
    FindingKind.NETWORK,
    FindingKind.HUB_ACCESS,
    FindingKind.DEPENDENCY,
    FindingKind.STALLED,
    FindingKind.KILLED,
    FindingKind.CRASH,
}
ROOTS = {
    "noise-after-the-error": "the scheduler and the optimizer do not fit",
    "torchrun-consequence": "the learning rate schedule has 0 steps",
    "torchrun-one-rank-raises": "rank 1 has no share of the data",
    "torchrun-bad-row": "JSONDecodeError",
    "oumi-bad-row": "(line 7)",
    "oumi-unknown-role": "messages.0.role",
    "streaming-bad-row": "in row 3",
    "jsonl-missing": "rows.jsonl",
    "map-in-processes": "row 5: the answer is empty",
    "hub-gated-config": "meta-llama/Llama-3.1-8B",
    "reward-server-refused": "Connection refused",
    "memory-numpy": "4.00 GiB",
    "cuda-device-assert-label": "t >= 0 && t < n_classes",
    "cuda-memory-two-ranks": "Tried to allocate 3.91 GiB",
    "vllm-no-cache-blocks": "No available memory for the cache blocks",
    "kernel-log-memory-kill": "anon-rss:64120032kB",
    "nccl-watchdog-timeout": "Watchdog caught collective operation timeout",
}


def logs() -> list[Case]:
    return [case for case in read_cases() if case.origin in {"provoked", "written"}]


def test_the_evidence_names_the_root_cause() -> None:
    cases = {case.name: case for case in logs()}
    shown = {name: diagnose(cases[name].evidence).findings[0].evidence for name in ROOTS}
    assert {name: text for name, text in shown.items() if ROOTS[name] not in text} == {}


def test_advice_names_keys_that_oumi_has() -> None:
    given = [
        step
        for case in read_cases()
        for one in diagnose(case.evidence).findings
        for step in one.try_
    ]
    given += [
        step
        for kind in FindingKind
        if kind in ADVISED
        for step in advise(kind, "", Evidence(now=0))
    ]
    keys = {key for step in given for key in KEY.findall(step)}
    assert len(keys) > 15
    assert [key for key in sorted(keys) if not is_key(key.split("."))] == []


def is_key(parts: list[str]) -> bool:
    schema = load_schema()
    name = schema["roots"][ConfigType.TRAINING]
    for part in parts:
        fields = schema["classes"][name]
        if part not in fields:
            return False
        if "name" not in fields[part] or fields[part]["kind"] != "object":
            return part == parts[-1] or part == "trainer_kwargs"
        name = fields[part].get("name", "")
    return True
