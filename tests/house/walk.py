"""Two walks through the code, with the project files that each crosses.

``python -m tests.house.walk`` prints them: a mini-batch of Proxy-FDA from the loader to the
metric, and a recipe to a record to the page of the board. A file counts when one of its functions
is called.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from avalanche.training.plugins import SupervisedPlugin

from avalanche_proxyfda import ProxyFDAPlugin
from benchmarks.board.write import write_board
from benchmarks.config import find_recipe, load_recipe
from benchmarks.experiment.run import run
from benchmarks.methods.plugins import checked
from benchmarks.results.files import collect, write_record
from tests.house.imports import PACKAGES, ROOT
from tests.plugins.toys import Plain, classic, strategy

SHORT = {"train.epochs": 1, "stream.sets": ["digits"], "panel.sets": ["colours"]}


@contextmanager
def crossed(files: list[str]) -> Iterator[None]:
    """Append to ``files`` each project file whose functions are called in the block."""
    starts = tuple(str(ROOT / package) for package in PACKAGES)

    def look(frame: FrameType, event: str, argument: Any) -> None:
        name = frame.f_code.co_filename
        if event == "call" and name.startswith(starts):
            short = str(Path(name).relative_to(ROOT))
            if short not in files and frame.f_code.co_name != "<module>":
                files.append(short)

    sys.setprofile(look)
    try:
        yield
    finally:
        sys.setprofile(None)


class _Start(SupervisedPlugin[Any]):
    """Watches the second epoch from its beginning, when everything is in place."""

    def __init__(self, watch: Any) -> None:
        super().__init__()
        self.watch = watch

    def before_training_epoch(self, strategy: Any, **kwargs: Any) -> None:
        if strategy.clock.train_exp_epochs == 1:
            self.watch.__enter__()


class _End(_Start):
    """Ends the watch with the epoch; comes last among the plugins."""

    def before_training_epoch(self, strategy: Any, **kwargs: Any) -> None:
        pass

    def after_training_epoch(self, strategy: Any, **kwargs: Any) -> None:
        if strategy.clock.train_exp_epochs == 1:
            self.watch.__exit__(None, None, None)


def mini_batch() -> list[str]:
    """Files that the mini-batches of an epoch of Proxy-FDA cross, from the loader to the metric."""
    files: list[str] = []
    watch = crossed(files)
    plugin = ProxyFDAPlugin(1.0, feature_module="backbone", num_neighbors=3, teacher_cache="exact")
    learner = strategy(Plain(), _Start(watch), plugin, _End(watch), train_epochs=2)
    learner.train(classic(1).train_stream[0], eval_streams=[])
    return files


def recipe_to_page() -> list[str]:
    """Files that a recipe crosses on its way to a record and to the page of the board."""
    files: list[str] = []
    with tempfile.TemporaryDirectory() as name, crossed(files):
        folder = Path(name)
        recipe = load_recipe(find_recipe("concepts.yaml"))
        config = checked(recipe.of_method("lp-ft", SHORT).config, recipe.path.name)
        write_record(folder / "record.json", run(config))
        write_board(collect([folder]), folder / "board")
    return files


def main() -> None:
    """Print both walks."""
    walks: tuple[tuple[str, Callable[[], list[str]]], ...] = (
        ("A mini-batch from the loader to the metric", mini_batch),
        ("A recipe to a record to the page", recipe_to_page),
    )
    for title, walk in walks:
        files = walk()
        print(f"{title}: {len(files)} files")
        print("\n".join(f"  {file}" for file in files))


if __name__ == "__main__":
    main()
