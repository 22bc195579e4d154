"""Says how a record's repetition compares with the record."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.results.agreement import Difference, differences
from benchmarks.results.machines import code_changes, is_known, machine_changes, same_machine
from benchmarks.results.record import Record
from benchmarks.results.scores import SCORES

HEADLINE = ("last", "forgetting_first", "transfer", "delta_lp", "delta_zs")
"""Scores that a comparison leads with."""
MOST_SHOWN = 20
"""Differing values that a comparison lists unless all are asked for."""

_LONGEST = 80
"""Letters of a value in the list."""


@dataclass(frozen=True)
class Repetition:
    """A record and the record of its repetition.

    Attributes:
        then: the record.
        now: record of the repetition.
        differing: values that differ, the largest share of its tolerance first.
        same_machine: True if the repetition must give the same bits.
    """

    then: Record
    now: Record
    differing: tuple[Difference, ...]
    same_machine: bool

    @classmethod
    def of(cls, then: Record, now: Record) -> Repetition:
        """Compare a record with the record of its repetition."""
        same = same_machine(then.how, now.how)
        return cls(then, now, tuple(differences(then, now)), same)

    @property
    def holds(self) -> bool:
        """True if no value differs; on another machine, if the tolerance covers all."""
        if self.same_machine:
            return not self.differing
        return all(each.within for each in self.differing)

    def report(self, every: bool = False) -> list[str]:
        """Return the comparison as lines of text.

        Args:
            every: True lists all values that differ, and not the first alone.
        """
        if not self.differing:
            return [*self._again(), "Every number of the record came out again."]
        shown = self.differing if every else self.differing[:MOST_SHOWN]
        left = len(self.differing) - len(shown)
        return [
            *self._headline(),
            self._verdict(),
            *self._causes(),
            "The values that differ, the largest share of its tolerance first:",
            *(
                f"  {each.path}: {_short(each.first)} in the record, {_short(each.second)} now"
                + ("" if self.same_machine or each.within else "  (beyond the tolerance)")
                for each in shown
            ),
            *([f"  and {left} more: --all lists all of them"] if left else []),
        ]

    def _again(self) -> list[str]:
        """Return the scores of :data:`HEADLINE`, and whether the machine is that of the record."""
        values = ((name, SCORES[name](self.now)) for name in HEADLINE)
        scores = ", ".join(f"{n} {100 * value:.2f}" for n, value in values if value is not None)
        lines = [f"Headline numbers (%, points), equal to the record's in every digit: {scores}."]
        if self.same_machine:
            return [*lines, "The machine is the same."]
        return [*lines, *self._causes()]

    def _headline(self) -> list[str]:
        """Return the scores of :data:`HEADLINE`, those of the record and those of now."""
        lines = ["Headline numbers (%, points):"]
        for name in HEADLINE:
            then, now = SCORES[name](self.then), SCORES[name](self.now)
            if then is not None and now is not None:
                lines.append(
                    f"  {name}: {100 * then:.2f} in the record, {100 * now:.2f} now, "
                    f"moved by {100 * (now - then):+.2f}"
                )
        return lines

    def _verdict(self) -> str:
        count, beyond = len(self.differing), sum(not each.within for each in self.differing)
        text = f"{count} values differ from the record's"
        if self.same_machine:
            return f"{text}. The machine is the same, where every bit must come out again."
        if not beyond:
            return f"{text}, all within the tolerance for another machine."
        return f"{text}, {beyond} of them beyond the tolerance for another machine."

    def _causes(self) -> list[str]:
        """Return what differs between the two runs, the machine before the code."""
        then, now = self.then.how, self.now.how
        lines = []
        machine, code = machine_changes(then, now), code_changes(then, now)
        if not is_known(then):
            lines.append(
                "The record does not hold family, model and stepping of its processor, so the "
                "processor may be another."
            )
        if machine:
            lines += ["The machine is another:", *(f"  {line}" for line in machine)]
        if code:
            lines += ["The code is another:", *(f"  {line}" for line in code)]
        return lines


def _short(value: object) -> str:
    """Return a value as text; the middle of a long one is left out."""
    text = str(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]} … {text[-20:]}"
