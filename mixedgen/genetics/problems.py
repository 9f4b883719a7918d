"""What is wrong with a pedigree, collected and told at once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from mixedgen.errors import PedigreeError, examples


@dataclass
class _Problems:
    """All that is wrong with a pedigree, reported at once."""

    rows_without_id: list[int] = field(default_factory=list)
    conflicting: list[Any] = field(default_factory=list)
    own_parents: list[Any] = field(default_factory=list)
    sires_too: list[Any] = field(default_factory=list)
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
        lines = [
            text.format(count=len(found), which=examples(found))
            for text, found in (
                ("{count} rows have no id: rows {which}, counted from 0.", self.rows_without_id),
                (
                    "{count} ids have rows with different parents: {which}. Keep the right row of each.",
                    self.conflicting,
                ),
                ("{count} animals are their own parent: {which}. Correct or blank that parent.", self.own_parents),
                (
                    "{count} ids are sire and dam: {which}. Correct them, or pass monoecious=True for plants.",
                    self.sires_too,
                ),
                (
                    "{count} parents without a row are written almost like an animal that has one: {which}. "
                    "Write both alike, or give the parent a row.",
                    self.misspelt,
                ),
                ("{count} loops, each animal a parent of the next: {which}. Break each loop.", self._printed_loops()),
                ("{count} names of unknown parents have a row: {which}. Drop that row.", self.unknown_with_row),
                (
                    "{count} animals have an unknown parent that belongs to no group: {which}. Where unknown parents "
                    "have names, all need one: write it in place of the missing parent, and give parents without a "
                    "row a row of their own.",
                    self.unnamed,
                ),
                (
                    "{count} animals are not younger than a parent: {which}. Correct the date or the parent.",
                    self.not_younger,
                ),
                (
                    "{count} dates are neither numbers nor like 2024-05-31: {which}. Correct or blank them.",
                    self.unreadable_dates,
                ),
                (
                    "{count} animals have a number of selfings that is negative, broken or no number: {which}.",
                    self.wrong_selfing,
                ),
                ("{count} individuals have two genotypes: {which}. Keep the right row of each.", self.two_genotypes),
            )
            if found
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
