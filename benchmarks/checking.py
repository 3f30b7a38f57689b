"""Checks: validate_config on a recipe with seeded errors and on one with none, warm.

Ours asks the worker, whose Oumi is loaded; oumi-mcp 0.9, in a virtual environment of its own, has
Oumi loaded itself. Both on the same files, spoken to in raw JSON-RPC.
"""

from typing import Any

from benchmarks.catalogue import Ask, timed, with_server
from benchmarks.server_start import PEER_NAME, install_peer
from benchmarks.support import OUMI_FLOWS, OURS, Bench, Report, main, warm_engine

GOOD = """\
model: {model_name: some/model}
data: {train: {datasets: [{dataset_name: yahma/alpaca-cleaned}]}}
training: {trainer_type: TRL_SFT, max_steps: 60, output_dir: out}
"""
BAD = """\
model: {model_name: some/model, model_max_length: -1}
data: {train: {datasets: [{dataset_name: yahma/alpaca-cleaned, sample_count: -3}]}}
training:
  trainer_type: trl_sft
  max_stepz: 60
  learning_rate: fast
  gradient_accumulation_steps: 0
"""


def measure(report: Report, runs: int) -> None:
    peer = install_peer()
    with warm_engine(HF_HUB_OFFLINE="1") as made:
        (made.folder / "good.yaml").write_text(GOOD)
        (made.folder / "bad.yaml").write_text(BAD)
        for who, command in {OURS: [str(OUMI_FLOWS), "mcp"], PEER_NAME: [str(peer)]}.items():
            with_server(made, command, lambda ask, who=who: calls(report, who, made, ask, runs))


def calls(report: Report, who: str, made: Bench, ask: Ask, runs: int) -> None:
    for what, file in {"a valid recipe": "good.yaml", "six errors": "bad.yaml"}.items():
        arguments: dict[str, Any] = {
            "config": str(made.folder / file),
            "task_type": "training",
            "client_cwd": str(made.folder),
        }
        ask("validate_config", arguments)
        times = [timed(lambda a=arguments: ask("validate_config", a))[0] for _ in range(runs)]
        target = "p50 <= 0.1 s" if who == OURS else ""
        report.add(f"validate_config, {what}", who, times, "s", target)
    answer = ask("validate_config", arguments)
    count = len(answer["errors"]) if "errors" in answer else int(bool(answer.get("error")))
    report.add("errors found, of six", who, [count], "errors")


if __name__ == "__main__":
    main("checking", __doc__, measure, runs=20)
