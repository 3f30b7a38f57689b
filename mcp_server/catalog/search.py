"""Searches the catalogue's entries: those that match every term, else those that match most."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from math import log
from typing import Final, NamedTuple

from flows.core.configs.schema import ConfigType
from mcp_server.catalog.entry import Entry
from mcp_server.catalog.model_names import size_of
from mcp_server.catalog.words import (
    MEANINGS,
    OWN,
    OWN_DATA,
    SMALL,
    VERSIONED,
    Term,
    is_of,
    read_query,
    split,
    terms_of,
    with_numbers,
)

# Weights of a match in a field, in another field, and of a part of a word.
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
    "own_data": 2.0,
    "description": 1.0,
}
_AGAIN: Final = 0.1
_SAME_MEANING: Final = 0.9
_LATER_MEANING: Final = 0.9
_BEGINNING: Final = 0.7
_WITHIN: Final = 0.4
_MISSPELT: Final = 0.3
_WISHED: Final = 0.5
_SMALLEST: Final = 2.0
_IN_ONE_PIECE: Final = 1.5
_JOB: Final = 0.9

_SHORTEST_BEGINNING: Final = 3
_SHORTEST_WITHIN: Final = 4
_SHORTEST_MISSPELT: Final = 4
_MAY_HAVE_TWO_ERRORS: Final = 5


class Hit(NamedTuple):
    """An entry that matches every term, or most of them if none matches all."""

    score: float
    entry: Entry


class SearchIndex:
    """The entries' words.

    Args:
        entries: Entries to search; of equal hits the earlier comes first.
    """

    def __init__(self, entries: Sequence[Entry]) -> None:
        self._entries = entries
        self._postings: dict[str, dict[int, float]] = {}
        # Without descriptions: a part of a word in a sentence is no match.
        self._names: dict[str, dict[int, float]] = {}
        self._pieces: list[str] = []
        self._smallness: list[float] = []
        for number, entry in enumerate(entries):
            self._add(number, entry)
        self._meet_exactly = lru_cache(maxsize=1024)(self._find)
        self._meet_nearly = lru_cache(maxsize=1024)(self._find_near)

    def search(self, query: Iterable[str]) -> list[Hit]:
        """Find the entries that match every term, best first; all entries for an empty query.

        If none matches every term, these are the entries that match most of them.
        """
        terms, wishes = read_query(query)
        found = self._match(terms) if terms else dict.fromkeys(range(len(self._entries)), 0.0)
        if not found:
            found = self._match_most(terms)
        own = self._find(OWN_DATA) if wishes & OWN else {}
        small = _SMALLEST if wishes & SMALL else 0.0
        for number in found:
            found[number] += _WISHED * own.get(number, 0.0) + small * self._smallness[number]
        ranked = sorted(
            ((self._score(number, score), number) for number, score in found.items()),
            key=lambda item: (-item[0], item[1]),
        )
        return [Hit(score, self._entries[number]) for score, number in ranked]

    def has_all(self, query: Iterable[str]) -> bool:
        """Whether an entry matches every term."""
        terms = terms_of(query)
        return not terms or bool(self._match(terms))

    def unmet(self, query: Iterable[str]) -> list[str]:
        """Find the terms that match no entry."""
        return [term.text for term in terms_of(query) if not self._match([term])]

    def without_one(self, query: Iterable[str]) -> tuple[str, int]:
        """Choose the least specific term to drop, and count the matches without it."""
        terms = terms_of(query)
        without = [
            (max(self._match([term]).values(), default=0.0), -count, term.text)
            for place, term in enumerate(terms)
            if (count := len(self._match(terms[:place] + terms[place + 1 :])))
        ]
        _, count, term = min(without, default=(0.0, 0, ""))
        return term, -count

    def misspelt(self, query: Iterable[str], entry: Entry) -> list[tuple[str, str]]:
        """Find words of the query that this match lacks, each with its nearest word."""
        number = self._entries.index(entry)
        missing = [
            part
            for term in terms_of(query)
            for part in term.parts
            if number not in self._meet_exactly(part)
        ]
        near = {
            part: [
                (quality, word)
                for word, quality in _close(part, self._names)
                if number in self._names[word]
            ]
            for part in missing
        }
        return [(part, max(words)[1]) for part, words in near.items() if words]

    def _match(self, terms: Sequence[Term]) -> dict[int, float]:
        found = self._meet(terms, any_may_be_misspelt=False)
        return found or self._meet(terms, any_may_be_misspelt=True)

    def _match_most(self, terms: Sequence[Term]) -> dict[int, float]:
        """Weigh the entries that match as many terms as any does; a rare term weighs more."""
        scores: dict[int, float] = {}
        counts: dict[int, int] = {}
        for term in terms:
            met = self._match([term])
            rarity = log(1 + len(self._entries) / max(1, len(met)))
            for number, score in met.items():
                scores[number] = scores.get(number, 0.0) + score * rarity
                counts[number] = counts.get(number, 0) + 1
        most = max(counts.values(), default=0)
        return {number: scores[number] for number, count in counts.items() if count == most}

    def _score(self, number: int, score: float) -> float:
        """A job config has less about a model or a task than the config that it runs."""
        return score * _JOB if self._entries[number].config_type == ConfigType.JOB else score

    def _add(self, number: int, entry: Entry) -> None:
        pieces: list[str] = []
        fields = entry._asdict() | {"size": size_of(entry.model_name)}
        for field, weight in _WEIGHTS.items():
            value = fields[field]
            text = _text_of(value)
            pieces.append("".join(split(text)))
            places = [self._postings] if field == "description" else [self._postings, self._names]
            for part in dict.fromkeys([*split(text), *with_numbers(text)]):
                for place in places:
                    posting = place.setdefault(part, {})
                    # In order of weight, so an earlier match counts in full.
                    before = posting.get(number)
                    posting[number] = weight if before is None else before + _AGAIN * weight
        self._pieces.append(" ".join(pieces))
        self._smallness.append(_smallness(fields["size"]))

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
            one = self._meet_exactly(part)
            if any_may_be_misspelt or not one:
                one = self._meet_nearly(part)
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

    def _find(self, part: str) -> dict[int, float]:
        """Weigh each entry that matches `part`."""
        best: dict[int, float] = {}
        for postings, word, quality in self._words_like(part):
            for number, weight in postings[word].items():
                best[number] = max(best.get(number, 0.0), weight * quality)
        return best

    def _find_near(self, part: str) -> dict[int, float]:
        """Add entries with a word that `part` may misspell."""
        best: dict[int, float] = {}
        for word, quality in _close(part, self._names):
            for number, weight in self._names[word].items():
                best[number] = max(best.get(number, 0.0), weight * quality)
        return best | self._meet_exactly(part)

    def _words_like(self, part: str) -> Iterator[tuple[dict[str, dict[int, float]], str, float]]:
        if part in self._postings:
            yield self._postings, part, 1.0
        other = part.removesuffix("s") if part.endswith("s") else f"{part}s"
        for place, word in enumerate((other, *MEANINGS.get(part, ()))):
            if word in self._postings:
                yield self._postings, word, _SAME_MEANING * _LATER_MEANING ** max(0, place - 1)
        if part[-1].isdigit():
            # llama3 finds llama3.1, but 1 does not find 13.
            words = (word for word in self._names if is_of(word, part))
            yield from ((self._names, word, _BEGINNING) for word in words)
        elif part.isalpha():
            for word in self._names:
                if word == part or not word.isalpha():
                    continue
                if len(part) >= _SHORTEST_BEGINNING and word.startswith(part):
                    yield self._names, word, _BEGINNING
                elif len(part) >= _SHORTEST_WITHIN and part in word:
                    yield self._names, word, _WITHIN


def only_in_names(query: Iterable[str], entry: Entry) -> Iterator[tuple[str, str]]:
    """Find terms that this entry has only in a name, with the kind of name."""
    if entry.task == "evaluation":  # an evaluation is about its benchmarks
        return
    everywhere = entry._replace(model_name="", datasets=())
    others = {part for value in everywhere for part in split(_text_of(value))}
    for term in terms_of(query):
        if len(term.parts) > 1 or term.text in others or term.text in MEANINGS:
            continue
        for what, names in (("model", entry.model_name), ("data set", _text_of(entry.datasets))):
            if term.text in split(names):
                yield term.text, what
                break


def _smallness(size: str) -> float:
    """Rate a model by size: 1 for the smallest, near 0 for a large or unknown one."""
    if not size:
        return 0.0
    billions = float(size[:-1]) / (1000 if size[-1] == "m" else 1)
    return 1 / (1 + billions)


def _text_of(value: str | tuple[str, ...]) -> str:
    return value if isinstance(value, str) else " ".join(value)


def _close(part: str, words: Iterable[str]) -> Iterator[tuple[str, float]]:
    """Find words that `part` may misspell; a number at its end must be right."""
    versioned = VERSIONED.fullmatch(part)
    name, number = versioned.groups() if versioned else (part, "")
    if len(name) < _SHORTEST_MISSPELT or not name.isalpha():
        return
    from rapidfuzz import process
    from rapidfuzz.distance import OSA

    allowed = 1 if len(name) < _MAY_HAVE_TWO_ERRORS else 2
    candidates = _names_like(part[0], number, words)
    for _, distance, word in process.extract_iter(
        name, candidates, scorer=OSA.distance, score_cutoff=allowed
    ):
        if distance:
            yield word, _MISSPELT / distance


def _names_like(letter: str, number: str, words: Iterable[str]) -> dict[str, str]:
    """The words that begin with a letter and have this number; without it, by the word."""
    found: dict[str, str] = {}
    for word in words:
        if word[0] != letter:
            continue
        if not number:
            if word.isalpha():
                found[word] = word
        elif (same := VERSIONED.fullmatch(word)) and (same[2] == number or is_of(same[2], number)):
            found[word] = same[1]
    return found
