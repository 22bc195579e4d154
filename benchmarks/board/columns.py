"""The columns of the board: the scores, their places and their titles.

A new column is a score in :data:`benchmarks.results.scores.SCORES` and an entry of :data:`COLUMNS`.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Literal

from benchmarks.results.scores import SCORES

Unit = Literal["percent", "points", "change", "times", "bytes"]


@dataclass(frozen=True)
class Column:
    """A score on the board.

    Attributes:
        key: name in :data:`~benchmarks.results.scores.SCORES`; a column with ``ratio_of`` may have
            any other name.
        title: title of the column.
        unit: ``percent`` of images; ``points`` of a loss of accuracy; ``change`` in points, with
            its sign; ``times`` the value of plain fine-tuning; ``bytes``.
        better: direction of a better score.
        short: the score in a few words.
        about: description of the score.
        ratio_of: name of a score; the column shows the score divided by that of plain fine-tuning
            with the same seed on the same machine. None: the column shows the score ``key``.
        cost: True if the score depends on the machine. Such a score is not compared across
            machines, and has no paired difference to plain fine-tuning.
        phone: True shows the column on narrow screens.
        in_findings: True names the score in sentences that compare a method with plain
            fine-tuning.
        compared: True gives the score a panel in the figure of differences.
        brief: True names the score in the line that the page has for each run.
    """

    key: str
    title: str
    unit: Unit
    better: Literal["more", "less"]
    short: str
    about: str
    ratio_of: str | None = None
    cost: bool = False
    phone: bool = True
    in_findings: bool = False
    compared: bool = False
    brief: bool = False

    def __post_init__(self) -> None:
        if self.cost and (self.in_findings or self.compared):
            raise ValueError(
                f"{self.key}: cost has no paired difference, so no in_findings or compared"
            )
        if self.ratio_of is not None and (self.brief or not self.cost):
            raise ValueError(f"{self.key}: ratio_of={self.ratio_of!r} needs cost, and no brief")
        score = self.ratio_of or self.key
        if score not in SCORES:
            near = difflib.get_close_matches(score, SCORES, n=1)
            raise ValueError(
                f"{self.key}: {score!r} is no score of benchmarks.results.scores.SCORES; "
                + (f"did you mean {near[0]!r}?" if near else "add it there")
            )


COLUMNS = (
    Column(
        "last",
        "Last",
        "percent",
        "more",
        "accuracy at the end",
        "Accuracy on the test images of all data sets of the stream, after the last was learnt: "
        "what the model has learnt.",
        in_findings=True,
        compared=True,
        brief=True,
    ),
    Column(
        "avg",
        "Avg",
        "percent",
        "more",
        "accuracy on the way",
        "Accuracy on the data sets learnt by then, after each of them; the mean.",
        phone=False,
    ),
    Column(
        "forgetting_first",
        "Forgetting",
        "points",
        "less",
        "of the stream itself",
        "Accuracy on a data set right after learning it minus at the end, mean over all but the "
        "last (Avalanche's formula): what was forgotten of the stream.",
        in_findings=True,
        compared=True,
    ),
    Column(
        "bwt",
        "BWT",
        "change",
        "more",
        "minus forgetting",
        "Backward transfer: minus forgetting.",
        phone=False,
    ),
    Column(
        "delta_lp",
        "Δ_LP",
        "change",
        "more",
        "unseen data, probes",
        "What is left of what the model knew before: the change, since pre-training, of the "
        "accuracy of linear probes on data sets that it was never tuned on (the panel). Probes "
        "are fitted anew on the features of each model. Below 0 is concept forgetting.",
        in_findings=True,
        compared=True,
        brief=True,
    ),
    Column(
        "delta_zs",
        "Δ_ZS",
        "change",
        "more",
        "unseen data, zero-shot",
        "The change of the panel's accuracy since pre-training with the texts of the classes in "
        "place of probes (zero-shot).",
        in_findings=True,
        compared=True,
    ),
    Column(
        "transfer",
        "Transfer",
        "percent",
        "more",
        "sets still to come",
        "Accuracy on the data sets of the stream that are still to come (MTIL's): of each, the "
        "mean over the moments after at least one other set was learnt; then the mean over the "
        "sets, each with the same weight.",
        in_findings=True,
        compared=True,
    ),
    Column(
        "delta_transfer",
        "ΔTransfer",
        "change",
        "more",
        "since pre-training",
        "Transfer minus the same of the model before training. Below 0 is zero-shot forgetting.",
    ),
    Column(
        "mtil_avg",
        "MTIL Avg",
        "percent",
        "more",
        "of the whole matrix",
        "Accuracy on all data sets of the stream, learnt and still to come, after each of them; "
        "the mean, each with the same weight.",
        phone=False,
    ),
    Column(
        "snd_forgetting",
        "SND forgetting",
        "points",
        "less",
        "best to end",
        "The best accuracy on a data set after any experience but the last, minus that at the end; "
        "the mean over all but the last set (SND's catastrophic forgetting).",
        phone=False,
    ),
    Column(
        "snd_degradation",
        "SND degradation",
        "points",
        "less",
        "before training to worst",
        "Accuracy on a data set before training minus the worst until the set is learnt; the mean "
        "over all but the first set (SND's zero-shot degradation).",
        phone=False,
    ),
    Column(
        "neighbors_kept",
        "Neighbours kept",
        "percent",
        "more",
        "unseen data",
        "Share of a panel image's 10 nearest neighbours in feature space that are its "
        "neighbours still.",
        in_findings=True,
    ),
    Column(
        "step_cost",
        "Step cost",
        "times",
        "less",
        "time",
        "Median time of a training step, divided by that of plain fine-tuning with the same "
        "seed on the same machine. Other work on a machine makes it noisy: mind the interval.",
        ratio_of="seconds_per_step",
        cost=True,
    ),
    Column(
        "peak_memory",
        "Memory",
        "bytes",
        "less",
        "at most",
        "Peak GPU memory; on a CPU, the largest memory of the process after a step, with its "
        "data, its libraries, and what earlier runs in it left.",
        cost=True,
        phone=False,
    ),
)
COLUMN = {column.key: column for column in COLUMNS}
"""Each column by its key."""
IN_FINDINGS = tuple(column.key for column in COLUMNS if column.in_findings)
"""Keys of the columns that sentences name."""
LEARNING = "last"
"""Key of the column on the plot's axis of learning."""
KEEPING = ("delta_lp", "bwt")
"""Keys for the plot's axis of keeping; a comparison takes the first that a row has."""
