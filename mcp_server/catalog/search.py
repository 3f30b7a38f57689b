"""Search over the catalogue's entries: every term must be met, the best met come first."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from flows.configs.schema import ConfigType
from mcp_server.catalog.entry import Entry
from mcp_server.catalog.model_names import size_of

# What a match in a field is worth, of one in a further field, and of one of less than a word.
_WEIGHTS: Final[Mapping[str, float]] = {
    "model_family": 4.0,
    "size": 4.0,
    "task": 4.0,
    "technique": 4.0,
    "config_type": 3.0,
    "cloud": 3.0,
    "model_name": 3.0,
    "path": 3.0,
    "datasets": 3.0,
    "gpu": 2.0,
    "uses": 2.0,
    "description": 1.0,
}
_AGAIN: Final = 0.1
_SAME_MEANING: Final = 0.9
_BEGINNING: Final = 0.7
_WITHIN: Final = 0.4
_MISSPELT: Final = 0.3
_IN_ONE_PIECE: Final = 1.5
_JOB: Final = 0.9

_MEANINGS: Final[Mapping[str, tuple[str, ...]]] = {
    "adapter": ("lora", "qlora"),
    "amazon": ("aws",),
    "analyse": ("analysis", "analyze"),
    "benchmark": ("evaluation",),
    "distill": ("distillation",),
    "eval": ("evaluation",),
    "evaluate": ("evaluation",),
    "finetune": ("sft",),
    "finetuning": ("sft",),
    "generation": ("inference", "synthesis"),
    "google": ("gcp", "vertex", "gemini"),
    "hpo": ("tuning",),
    "hyperparameter": ("tuning",),
    "image": ("vision", "vl"),
    "infer": ("inference",),
    "kd": ("distillation",),
    "kubernetes": ("k8s",),
    "k8s": ("kubernetes",),
    "multimodal": ("vision", "vl"),
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
    {"a", "an", "and", "config", "configs", "example", "file", "for", "in", "make", "me", "my"}
    | {"of", "on", "please", "recipe", "recipes", "run", "the", "to", "using", "with", "yaml"}
)
_FINE_TUNE: Final = re.compile(r"\bfine[\s_-]?tun(?:e|ing)\b")
_PART: Final = re.compile(r"k8s|\d+(?:\.\d+)?[bm](?![a-z])|\d+(?:\.\d+)*|[a-z]+")
_NUMBER_WITH_UNDERSCORE: Final = re.compile(r"(?<=\d)[_p](?=\d)")
_SHORTEST_WITHIN: Final = 3
_SHORTEST_MISSPELT: Final = 4
_MAY_HAVE_TWO_ERRORS: Final = 5


class Term(NamedTuple):
    """One thing that must be met: all its parts, best in one piece."""

    text: str
    parts: tuple[str, ...]


class Hit(NamedTuple):
    """An entry that meets every term."""

    score: float
    entry: Entry


class SearchIndex:
    """The entries' words.

    Args:
        entries: What is searched; of equal hits the earlier comes first.
    """

    def __init__(self, entries: Sequence[Entry]) -> None:
        self._entries = entries
        self._postings: dict[str, dict[int, float]] = {}
        self._pieces: list[str] = []
        for number, entry in enumerate(entries):
            self._add(number, entry)
        self._meanings = lru_cache(maxsize=1024)(self._find)

    def search(self, query: Iterable[str]) -> list[Hit]:
        """The entries that meet every term of the query, the best first; all of them for none."""
        terms = terms_of(query)
        if not terms:
            return [Hit(0.0, entry) for entry in self._entries]
        ranked = sorted(
            ((self._score(number, score), number) for number, score in self._found(terms).items()),
            key=lambda item: (-item[0], item[1]),
        )
        return [Hit(score, self._entries[number]) for score, number in ranked]

    def unmet(self, query: Iterable[str]) -> list[str]:
        """The terms that no entry meets."""
        return [term.text for term in terms_of(query) if not self._found([term])]

    def without_one(self, query: Iterable[str]) -> tuple[str, int]:
        """The term whose leaving out gives the most entries, and how many; 0: none does."""
        terms = terms_of(query)
        counts = [
            (len(self._found(terms[:place] + terms[place + 1 :])), term.text)
            for place, term in enumerate(terms)
        ]
        count, term = max(counts, default=(0, ""))
        return term, count

    def _found(self, terms: Sequence[Term]) -> dict[int, float]:
        found = self._meet(terms, any_may_be_misspelt=False)
        return found or self._meet(terms, any_may_be_misspelt=True)

    def _score(self, number: int, score: float) -> float:
        """A job config says less of a model or a task than the config that it runs."""
        return score * _JOB if self._entries[number].config_type == ConfigType.JOB else score

    def _add(self, number: int, entry: Entry) -> None:
        pieces: list[str] = []
        fields = entry._asdict() | {"size": size_of(entry.model_name)}
        for field, weight in _WEIGHTS.items():
            value = fields[field]
            text = value if isinstance(value, str) else " ".join(value)
            pieces.append("".join(split(text)))
            for part in dict.fromkeys(split(text)):
                posting = self._postings.setdefault(part, {})
                # In order of weight, so what is there already counts in full.
                posting[number] = posting[number] + _AGAIN * weight if number in posting else weight
        self._pieces.append(" ".join(pieces))

    def _meet(self, terms: Sequence[Term], *, any_may_be_misspelt: bool) -> dict[int, float]:
        scores: dict[int, float] | None = None
        for term in terms:
            met = self._meet_one(term, any_may_be_misspelt=any_may_be_misspelt)
            if scores is None:
                scores = met
            else:
                scores = {number: scores[number] + met[number] for number in scores.keys() & met}
            if not scores:
                return {}
        return scores or {}

    def _meet_one(self, term: Term, *, any_may_be_misspelt: bool) -> dict[int, float]:
        met: dict[int, float] | None = None
        for part in term.parts:
            one = self._meanings(part, any_may_be_misspelt)
            met = (
                dict(one)
                if met is None
                else {number: min(met[number], one[number]) for number in met.keys() & one}
            )
        if met is None:
            return {}
        if len(term.parts) > 1:
            piece = "".join(term.parts)
            for number in met:
                if piece in self._pieces[number]:
                    met[number] *= _IN_ONE_PIECE
        return met

    def _find(self, part: str, may_be_misspelt: bool) -> dict[int, float]:  # noqa: FBT001 - a cache's key
        """What each entry that meets `part` is worth."""
        best: dict[int, float] = {}
        for word, quality in self._words_like(part):
            for number, weight in self._postings[word].items():
                best[number] = max(best.get(number, 0.0), weight * quality)
        if best and not may_be_misspelt:
            return best
        for word, quality in _close(part, self._postings):
            for number, weight in self._postings[word].items():
                best.setdefault(number, weight * quality)
        return best

    def _words_like(self, part: str) -> Iterator[tuple[str, float]]:
        if part in self._postings:
            yield part, 1.0
        for word in _MEANINGS.get(part, ()):
            if word in self._postings:
                yield word, _SAME_MEANING
        if part[0].isdigit():
            # 3 finds 3.1, but 1 does not find 13.
            yield from ((word, _BEGINNING) for word in self._postings if _is_of(word, part))
            return
        for word in self._postings:
            if word == part:
                continue
            if word.startswith(part):
                yield word, _BEGINNING
            elif len(part) >= _SHORTEST_WITHIN and part in word:
                yield word, _WITHIN


def terms_of(query: Iterable[str]) -> list[Term]:
    """The terms of a query: its words, less those that say nothing where others do."""
    words = [word for text in query for word in _normal(text).split()]
    terms = [Term(word, parts) for word in words if (parts := tuple(split(word)))]
    telling = [term for term in terms if term.text not in _FILLERS]
    return list(dict.fromkeys(telling or terms))


def split(text: str) -> list[str]:
    """The parts of a text: words, numbers and sizes, in lower case."""
    return _PART.findall(_normal(text))


def _normal(text: str) -> str:
    text = _FINE_TUNE.sub("sft", text.lower())
    # As folders write versions: llama3_1, glm-4p7.
    return _NUMBER_WITH_UNDERSCORE.sub(".", text)


def _is_of(word: str, version: str) -> bool:
    return word.startswith(f"{version}.") and not word[-1].isalpha()


def _close(part: str, words: Iterable[str]) -> Iterator[tuple[str, float]]:
    """Words that `part` may be a misspelling of."""
    if len(part) < _SHORTEST_MISSPELT or not part.isalpha():
        return
    from rapidfuzz import process
    from rapidfuzz.distance import OSA

    allowed = 1 if len(part) < _MAY_HAVE_TWO_ERRORS else 2
    candidates = [word for word in words if word.isalpha() and word[0] == part[0]]
    for word, distance, _ in process.extract_iter(
        part, candidates, scorer=OSA.distance, score_cutoff=allowed
    ):
        if distance:
            yield word, _MISSPELT / distance
