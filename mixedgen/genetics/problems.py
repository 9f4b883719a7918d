"""What is wrong with a pedigree, collected and told at once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from mixedgen.errors import PedigreeError, examples

# what is wrong, in the order in which it is told: the field of `_Problems`, and its sentence
_SENTENCES = {
    "rows_without_id": "{count} rows have no id: rows {which}, counted from 0.",
    "conflicting": "{count} ids have rows with different parents: {which}. Keep the right row of each.",
    "own_parents": "{count} animals are their own parent: {which}. Correct or blank that parent.",
    "sires_too": "{count} ids are sire and dam: {which}. Correct them, or pass monoecious=True for plants.",
    "unknown_codes": (
        "{count} codes look like those of unknown parents, for they have offspring and no row of their own: {which}. "
        "List them in unknown=, or give the parent a row."
    ),
    "misspelt": (
        "{count} parents without a row are written almost like an animal that has one: {which}. Write both "
        "alike, or give the parent a row."
    ),
    "loops": "{count} loops, each animal a parent of the next: {which}. Break each loop.",
    "unknown_with_row": "{count} names of unknown parents have a row: {which}. Drop that row.",
    "unnamed": (
        "{count} animals have an unknown parent that belongs to no group: {which}. Where unknown parents have "
        "names, all need one: write it in place of the missing parent, and give parents without a row a row "
        "of their own."
    ),
    "not_younger": "{count} animals are not younger than a parent: {which}. Correct the date or the parent.",
    "unreadable_dates": "{count} dates are neither numbers nor like 2024-05-31: {which}. Correct or blank them.",
    "wrong_selfing": "{count} animals have a number of selfings that is negative, broken or no number: {which}.",
    "two_genotypes": "{count} individuals have two genotypes: {which}. Keep the right row of each.",
}


@dataclass
class _Problems:
    """All that is wrong with a pedigree, reported at once."""

    rows_without_id: list[int] = field(default_factory=list)
    conflicting: list[Any] = field(default_factory=list)
    own_parents: list[Any] = field(default_factory=list)
    sires_too: list[Any] = field(default_factory=list)
    unknown_codes: list[tuple[Any, int]] = field(default_factory=list)
    misspelt: list[Any] = field(default_factory=list)
    loops: list[list[Any]] = field(default_factory=list)
    unknown_with_row: list[Any] = field(default_factory=list)
    unnamed: list[Any] = field(default_factory=list)
    not_younger: list[Any] = field(default_factory=list)
    unreadable_dates: list[Any] = field(default_factory=list)
    wrong_selfing: list[Any] = field(default_factory=list)
    two_genotypes: list[Any] = field(default_factory=list)

    def report(self) -> None:
        """Raise one error for everything found."""
        codes = [_Verbatim(f"{examples([code])} of {count} offspring") for code, count in self.unknown_codes]
        found = {**vars(self), "loops": self._printed_loops(), "unknown_codes": codes}
        lines = [
            text.format(count=len(found[name]), which=examples(found[name]))
            for name, text in _SENTENCES.items()
            if found[name]
        ]
        if lines:
            raise PedigreeError("the pedigree contradicts itself. " + " ".join(lines), **vars(self))

    def _printed_loops(self) -> list[_Verbatim]:
        """Loops as a -> b -> a."""
        return [_Verbatim(" -> ".join(str(id) for id in loop)) for loop in self.loops]


class _Verbatim:
    """Text that `examples` shows without quotation marks."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __str__(self) -> str:
        """Show the text itself."""
        return self.text
