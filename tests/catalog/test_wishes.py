"""What people ask for in words of their own, over our recipes and some like Oumi's."""

import pytest

from mcp_server.catalog.catalog import RECIPES_DIR
from mcp_server.catalog.entry import Entry, read_entry
from mcp_server.catalog.search import SearchIndex


def oumis(path: str, text: str) -> Entry:
    return read_entry(path, text)


TRAIN = "model: {model_name: %s}\ntraining: {trainer_type: %s}\n"
ENTRIES = [
    *(
        read_entry(f"starter/{path.relative_to(RECIPES_DIR)}", path.read_text())
        for path in sorted(RECIPES_DIR.rglob("*.yaml"))
    ),
    oumis("examples/grpo_verl_gsm8k/train.yaml", TRAIN % ("Qwen/Qwen3-4B", "VERL_GRPO")),
    oumis(
        "projects/judges/doc_qa/groundedness.yaml",
        "judge_params: {prompt_template: 'Is {answer} grounded?'}\n",
    ),
    oumis("projects/halloumi/8b_train.yaml", TRAIN % ("meta-llama/Llama-3.1-8B", "TRL_SFT")),
    oumis("apis/openai/infer_gpt_4o.yaml", "model: {model_name: gpt-4o}\nengine: OPENAI\n"),
]
INDEX = SearchIndex(ENTRIES)


@pytest.mark.parametrize(
    ("query", "fits"),
    [
        ("generate synthetic data", "synthesis"),
        ("make me synthetic conversations please", "synthesis"),
        ("batch inference openai gpt-4o", "gpt_4o"),
        ("run batch inference with gpt-4o", "gpt_4o"),
        ("analyze dataset quality", "analysis"),
        ("check my dataset for duplicates", "analysis"),
        ("aws 8xA100", "aws"),
        ("8x A100 on aws", "aws"),
        ("slurm 4xH100", "slurm"),
        ("continue pretraining on my corpus", "pretrain"),
        ("continued pre-training", "pretrain"),
        ("hallucination detection", "groundedness"),
        ("detect hallucinations", "groundedness"),
        ("hallucination", "halloumi"),
        ("math", "gsm8k"),
        ("teach a model maths with rl", "gsm8k"),
        ("summarize articles", "tldr"),
        ("finetune llama on a csv of mine", "llama"),
        ("kubernetes cluster fine-tuning somehow", "k8s"),
    ],
)
def test_a_wish_is_answered_with_something_that_fits(query: str, fits: str) -> None:
    found = [hit.entry.path for hit in INDEX.search([query])]
    assert any(fits in path for path in found[:4]), found[:6]


@pytest.mark.parametrize("query", ["8xA100", "8x A100", "A100:8", "8 x a100"])
def test_a_count_of_gpus_is_read_however_it_is_written(query: str) -> None:
    entries = [Entry("a.yaml", gpu="A100:8"), Entry("b.yaml", gpu="H100:8")]
    found = [hit.entry.path for hit in SearchIndex(entries).search([query])]
    assert found[0] == "a.yaml"
