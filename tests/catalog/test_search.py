"""Search: all terms, ranked, misspellings forgiven."""

import pytest

from mcp_server.catalog.entry import Entry
from mcp_server.catalog.model_names import family_of, size_of
from mcp_server.catalog.search import SearchIndex


def entry(path: str, **fields: str) -> Entry:
    name = fields.get("model_name", "")
    values = {"config_type": "training", "model_family": family_of(name)} | fields
    return Entry(path, **values)  # pyright: ignore[reportArgumentType]


LLAMA = "meta-llama/Llama-3.1-8B-Instruct"
ENTRIES = [
    *(
        entry(f"recipes/llama3_1/sft/8b_{how}/t.yaml", model_name=LLAMA, task="sft", technique=how)
        for how in ("full", "lora", "qlora")
    ),
    entry("recipes/qwen3/dpo/18b.yaml", model_name="Qwen/Qwen3-18B", task="dpo", technique="lora"),
    entry("recipes/falcon/eval.yaml", model_name="tiiuae/Falcon-13-7B", task="evaluation"),
    entry("jobs/k8s.yaml", config_type="job", task="training", cloud="k8s", gpu="H100:8"),
    Entry("judges/safety.yaml", config_type="judge", datasets=("yahma/alpaca-cleaned",)),
]


def paths(*query: str) -> list[str]:
    return [hit.entry.path for hit in SearchIndex(ENTRIES).search(query)]


def test_every_term_must_be_met_whatever_its_case_and_place() -> None:
    expected = ["recipes/llama3_1/sft/8b_qlora/t.yaml"]
    assert paths("QLoRA", "llama") == expected
    assert paths("qlora llama 8B") == expected


def test_a_word_that_nothing_has_does_not_empty_the_answer() -> None:
    expected = ["recipes/llama3_1/sft/8b_qlora/t.yaml"]
    assert paths("qlora llama unheardof") == expected
    assert paths("please", "find unheardof qlora llama somewhere") == expected
    assert set(paths("qlora qwen")) == {expected[0], "recipes/qwen3/dpo/18b.yaml"}
    assert paths("unheardof") == []


def test_no_terms_find_everything() -> None:
    assert paths() == [item.path for item in ENTRIES]
    assert paths("", "  ") == [item.path for item in ENTRIES]


@pytest.mark.parametrize("spelling", ["llama3_1", "llama-3.1", "Llama 3.1", "llama3.1", "llama 3"])
def test_a_version_is_met_however_it_is_written(spelling: str) -> None:
    assert len(paths(spelling)) == 3


def test_a_name_in_one_piece_comes_before_its_scattered_parts() -> None:
    entries = [entry("a/cleaned/alpaca.yaml"), entry("b/alpaca_cleaned.yaml")]
    found = [hit.entry.path for hit in SearchIndex(entries).search(["alpaca-cleaned"])]
    assert found == ["b/alpaca_cleaned.yaml", "a/cleaned/alpaca.yaml"]


@pytest.mark.parametrize("query", ["llama3.1", "llama 3.1", "llama3", "llama 3"])
def test_a_name_with_a_number_is_met_in_one_piece_only(query: str) -> None:
    entries = [entry("a/3.1/llama.yaml"), entry("b/llama3_1.yaml"), entry("c/llama/8x3.yaml")]
    assert [hit.entry.path for hit in SearchIndex(entries).search([query])] == ["b/llama3_1.yaml"]


def test_a_number_of_gpus_is_no_version() -> None:
    entries = [entry("a/llama.yaml", gpu="4 GPUs"), entry("b/llama4.yaml")]
    index = SearchIndex(entries)
    assert [hit.entry.path for hit in index.search(["llama 4 gpus"])] == ["a/llama.yaml"]
    assert [hit.entry.path for hit in index.search(["llama 4"])] == ["b/llama4.yaml"]


@pytest.mark.parametrize(("query", "total"), [("supp", 0), ("support", 1), ("gemm", 1), ("emm", 0)])
def test_a_part_of_a_word_is_looked_for_in_names_only_and_not_when_it_is_short(
    query: str, total: int
) -> None:
    index = SearchIndex([entry("a/gemma.yaml", description="Make support conversations.")])
    assert len(index.search([query])) == total


def test_a_match_of_a_misspelling_is_reported() -> None:
    index = SearchIndex(ENTRIES)
    best = index.search(["lamma3 qlora"])[0].entry
    assert index.misspelt(["lamma3 qlora"], best) == [("lamma3", "llama3.1")]
    assert index.misspelt(["llama3 qlora"], best) == []


def test_a_misspelt_name_keeps_its_number() -> None:
    assert paths("lamma4") == []


def test_the_term_to_leave_out_is_the_one_that_says_least() -> None:
    index = SearchIndex([*ENTRIES, entry("jobs/label.yaml", config_type="job")])
    assert not index.has_all(["kubernetes labl"])
    assert index.without_one(["kubernetes labl"]) == ("labl", 1)


def test_small_is_an_order_by_size_and_no_term() -> None:
    sizes = ("7B", "0.5B", "135M", "70B")
    entries = [entry(f"{size}.yaml", model_name=f"acme/Thing-{size}") for size in sizes]
    index = SearchIndex([*entries, entry("unknown.yaml", model_name="acme/Thing")])
    found = [hit.entry.path for hit in index.search(["a small thing"])]
    assert found == ["135M.yaml", "0.5B.yaml", "7B.yaml", "70B.yaml", "unknown.yaml"]


def test_a_size_is_met_whole() -> None:
    assert "recipes/qwen3/dpo/18b.yaml" not in paths("8b")
    assert paths("18b") == ["recipes/qwen3/dpo/18b.yaml"]


def test_a_number_is_not_met_within_another() -> None:
    assert not SearchIndex(ENTRIES).has_all(["3 falcon"])
    assert paths("13 falcon") == ["recipes/falcon/eval.yaml"]


def test_a_whole_word_comes_before_one_it_is_a_part_of() -> None:
    found = paths("llama lora")
    assert found[0] == "recipes/llama3_1/sft/8b_lora/t.yaml"
    assert found[1] == "recipes/llama3_1/sft/8b_qlora/t.yaml"


@pytest.mark.parametrize("misspelt", ["lamma qlora", "llma qlora", "llama qlroa"])
def test_a_misspelling_is_forgiven(misspelt: str) -> None:
    assert paths(misspelt) == ["recipes/llama3_1/sft/8b_qlora/t.yaml"]


def test_what_is_spelt_right_is_not_taken_for_a_misspelling() -> None:
    entries = [entry("a/qwen.yaml"), entry("b/qwenx.yaml"), entry("c/qwan.yaml")]
    found = [hit.entry.path for hit in SearchIndex(entries).search(["qwen"])]
    assert found == ["a/qwen.yaml", "b/qwenx.yaml"]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("kubernetes", "jobs/k8s.yaml"),
        ("H100:8", "jobs/k8s.yaml"),
        ("preference qwen", "recipes/qwen3/dpo/18b.yaml"),
        ("benchmark", "recipes/falcon/eval.yaml"),
        ("yahma/alpaca-cleaned", "judges/safety.yaml"),
        ("recipe for fine-tuning llama with qlora", "recipes/llama3_1/sft/8b_qlora/t.yaml"),
    ],
)
def test_a_person_may_use_other_words(words: str, found: str) -> None:
    assert paths(words) == [found]


def test_terms_without_a_match_are_reported() -> None:
    assert SearchIndex(ENTRIES).unmet(["llama", "unheardof", "lamma"]) == ["unheardof"]


def test_a_config_comes_before_the_job_that_runs_it() -> None:
    same = {"task": "sft", "model_name": LLAMA}
    entries = [entry("a/job.yaml", **same, config_type="job"), entry("a/train.yaml", **same)]
    found = [hit.entry.path for hit in SearchIndex(entries).search(["llama sft"])]
    assert found == ["a/train.yaml", "a/job.yaml"]


@pytest.mark.parametrize(
    ("name", "family", "size"),
    [
        ("meta-llama/Llama-3.1-8B-Instruct", "llama3.1", "8b"),
        ("meta-llama/Meta-Llama-3.1-70B", "llama3.1", "70b"),
        ("Qwen/Qwen2.5-VL-3B-Instruct", "qwen2.5", "3b"),
        ("Qwen/Qwen3-0.6B", "qwen3", "0.6b"),
        ("google/gemma-3-4b-it", "gemma3", "4b"),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", "smollm2", "135m"),
        ("mistralai/Mistral-7B-Instruct-v0.3", "mistral", "7b"),
        ("deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B", "deepseek-r1", "1.5b"),
        ("openai/gpt-oss-20b", "gpt-oss", "20b"),
        ("openai-community/gpt2", "gpt2", ""),
        ("microsoft/phi-4", "phi4", ""),
        ("/home/me/llama-3.2-1b/", "llama3.2", "1b"),
        ("", "", ""),
        ("???", "", ""),
    ],
)
def test_family_and_size_are_read_from_a_models_name(name: str, family: str, size: str) -> None:
    assert (family_of(name), size_of(name)) == (family, size)
