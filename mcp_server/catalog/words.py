"""Splits queries and entries into words, and knows what the words mean."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

MEANINGS: Final[Mapping[str, tuple[str, ...]]] = {
    "adapter": ("lora", "qlora"),
    "amazon": ("aws",),
    "analyse": ("analysis", "analyze"),
    "answering": ("qa",),
    "batch": ("inference",),
    "benchmark": ("evaluation",),
    "chatbot": ("sft",),
    "chatbots": ("sft",),
    "classification": ("judge",),
    "classify": ("judge",),
    "continue": ("pretraining",),
    "continued": ("pretraining",),
    "corpus": ("pretraining", "jsonl"),
    "csv": ("jsonl",),
    "custom": ("jsonl",),
    "deduplicate": ("analysis",),
    "duplicates": ("analysis",),
    "detect": ("judge",),
    "detection": ("judge",),
    "distill": ("distillation",),
    "eval": ("evaluation",),
    "evaluate": ("evaluation",),
    "finetune": ("sft",),
    "finetuning": ("sft",),
    "function": ("tool",),
    "generate": ("synthesis", "inference"),
    "generation": ("inference", "synthesis"),
    "google": ("gcp", "vertex", "gemini"),
    "hallucination": ("halloumi", "truthfulness", "groundedness"),
    "hallucinations": ("halloumi", "truthfulness", "groundedness"),
    "hpo": ("tuning",),
    "hyperparameter": ("tuning",),
    "image": ("vision", "vl"),
    "infer": ("inference",),
    "int4": ("4bit", "awq"),
    "int8": ("8bit",),
    "kd": ("distillation",),
    "kubernetes": ("k8s",),
    "k8s": ("kubernetes",),
    "math": ("gsm8k", "maths", "countdown"),
    "mathematics": ("gsm8k", "math", "countdown"),
    "maths": ("math", "gsm8k", "countdown"),
    "medical": ("medqa",),
    "multilingual": ("aya",),
    "multimodal": ("vision", "vl"),
    "my": ("jsonl",),
    "own": ("jsonl",),
    "peft": ("lora", "qlora"),
    "preference": ("dpo", "kto"),
    "pretrain": ("pretraining",),
    "quant": ("quantization",),
    "quantise": ("quantization",),
    "quantisation": ("quantization",),
    "quantize": ("quantization",),
    "reinforcement": ("grpo",),
    "rl": ("grpo",),
    "rlhf": ("grpo", "dpo"),
    "summarization": ("tldr",),
    "summarize": ("tldr",),
    "toxicity": ("safety",),
    "serve": ("inference",),
    "supervised": ("sft",),
    "sweep": ("tuning",),
    "synth": ("synthesis",),
    "synthetic": ("synthesis",),
    "tune": ("tuning",),
    "vision": ("vl",),
    "vlm": ("vision", "vl"),
}
_FILLERS: Final = frozenset(
    {"a", "an", "and", "config", "configs", "data", "dataset", "datasets", "example", "file"}
    | {"for", "i", "in", "it", "make", "me", "model", "models", "of", "on", "please", "recipe"}
    | {"recipes", "run", "the", "to", "using", "want", "with", "yaml"}
)
# Words that affect the order but need no match.
OWN: Final = frozenset({"custom", "my", "own"})
SMALL: Final = frozenset({"little", "small", "smallest"})
OWN_DATA: Final = "jsonl"
# A number before one of these is a count, not a version of the word before it.
_UNITS: Final = frozenset({"gpu", "gpus", "node", "nodes"})
_FINE_TUNE: Final = re.compile(r"\bfine[\s_-]?tun(?:e|ing)\b")
_VISION_LANGUAGE: Final = re.compile(r"vision[\s_-]+language")
_BITS: Final = re.compile(r"(?<=\d)[\s_-]?bits?(?![a-z])")
_SIZE: Final = r"\d+(?:\.\d+)?[bm](?![a-z])"
_NUMBER: Final = r"\d+(?:\.\d+)*"
_PART: Final = re.compile(rf"k8s|gsm8k|\d+bit|{_SIZE}|{_NUMBER}|[a-z]+")
_WITH_NUMBER: Final = re.compile(rf"(?=(?<![a-z])([a-z]+)[\s_-]?(?!{_SIZE}|\d+bit)({_NUMBER}))")
VERSIONED: Final = re.compile(rf"([a-z]+)({_NUMBER})")
# A count before GPUs, as people write it; configs have A100:8.
_COUNTED_GPUS: Final = re.compile(r"\b(\d+)\s?x\s?([a-z]{1,3}\d+[a-z]?)\b")
_NUMBER_WITH_UNDERSCORE: Final = re.compile(r"(?<=\d)[_p](?=\d)")


class Term(NamedTuple):
    """A term that must match: all its parts, best in one piece."""

    text: str
    parts: tuple[str, ...]


def terms_of(query: Iterable[str]) -> list[Term]:
    """Read the terms of a query: its words without filler words."""
    return read_query(query)[0]


def read_query(query: Iterable[str]) -> tuple[list[Term], set[str]]:
    """Read the terms that must match, and the words that affect the order."""
    words = [word for text in query for word in _normal(text).split()]
    wishes = {word for word in words if word in OWN | SMALL}
    terms = [Term(word, parts) for word in _join_versions(words) if (parts := _parts_of(word))]
    telling = [term for term in terms if term.text not in _FILLERS | wishes]
    if not telling and wishes:
        telling = [term for term in terms if term.text in OWN]
        return telling[:1], wishes
    return list(dict.fromkeys(telling or terms)), wishes


def split(text: str) -> list[str]:
    """Split a text into words, numbers and sizes, in lower case."""
    return _PART.findall(_normal(text))


def with_numbers(text: str) -> list[str]:
    """Join words with the numbers that follow them: llama3.1, a100."""
    return [name + number for name, number in _WITH_NUMBER.findall(_normal(text))]


def is_of(word: str, version: str) -> bool:
    """Whether a word is a version within this one: llama3.1 is of llama3."""
    return word.startswith(f"{version}.") and not word[-1].isalpha()


def _join_versions(words: list[str]) -> Iterator[str]:
    """Join each word with the version that follows it: llama 3.1 is one term."""
    place = 0
    while place < len(words):
        word, after = words[place], words[place + 1 : place + 3]
        place += 1
        is_name = word.isalpha() and word not in _FILLERS | OWN | SMALL
        if is_name and after and re.fullmatch(_NUMBER, after[0]) and after[-1] not in _UNITS:
            word += after[0]
            place += 1
        yield word


def _parts_of(word: str) -> tuple[str, ...]:
    """Split a word, keeping letters and the number after them together."""
    versions = with_numbers(word)
    parts: list[str] = []
    for part in split(word):
        if parts and f"{parts[-1]}{part}" in versions:
            parts[-1] += part
        else:
            parts.append(part)
    return tuple(parts)


def _normal(text: str) -> str:
    text = _FINE_TUNE.sub("sft", text.lower())
    text = _BITS.sub("bit", _VISION_LANGUAGE.sub("vision", text))
    text = _COUNTED_GPUS.sub(r"\2:\1", text)
    # As folders write versions: llama3_1, glm-4p7.
    return _NUMBER_WITH_UNDERSCORE.sub(".", text)
