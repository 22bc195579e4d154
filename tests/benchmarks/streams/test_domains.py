"""Dry runs of the domain sequences on miniatures: DomainNet, CORe50, CDDB-Hard."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.config import RECIPES, load_recipe
from benchmarks.experiment.prepare import prepare
from tests.benchmarks.miniature import write_folder
from tests.streams.test_datasets import image
from tests.streams.test_lists import domain


def domainnet(root: Path) -> tuple[int, int]:
    for name in ("clipart", "infograph", "painting", "quickdraw", "real", "sketch"):
        domain(root / "domainnet", name)
    return 6, 2


def core50(root: Path) -> tuple[int, int]:
    """Sessions of four objects of two categories; 3, 7 and 10 are each session's test list."""
    lists = {}
    for session in range(1, 12):
        lists[session] = []
        for item in range(1, 5):
            for n in range(3):
                path = f"s{session}/o{item}/C_{session:02d}_{item:02d}_{n:03d}.png"
                image(root / "core50" / path, item)
                lists[session].append(f"{path} {(item - 1) // 2}")
    tested = [line for session in (3, 7, 10) for line in lists[session]]
    for session in sorted(set(lists) - {3, 7, 10}):
        for part, lines in (("train", lists[session]), ("test", tested)):
            file = root / "core50" / f"s{session}_{part}.txt"
            file.write_text("\n".join(lines), encoding="utf-8")
    (root / "core50/classes.txt").write_text("plug adapter\nmobile phone", encoding="utf-8")
    return 8, 2


def cddb_hard(root: Path) -> tuple[int, int]:
    for k, name in enumerate(("gaugan", "biggan", "wild", "whichfaceisreal", "san")):
        write_folder(root / "cddb" / name, ["0_real", "1_fake"], (8, 8), "RGB", k, images=6)
        (root / "cddb" / name / "test").rename(root / "cddb" / name / "val")
    return 5, 2


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("write", [domainnet, core50, cddb_hard])
def test_a_dry_run(write: object, tmp_path: Path) -> None:
    assert callable(write)
    experiences, classes = write(tmp_path)
    recipe = load_recipe(RECIPES / f"{write.__name__}.yaml")
    changes = {
        "where.data": str(tmp_path),
        "where.device": "cpu",
        "backbone.name": "tiny-clip",
        "train.batch": 8,
        "stream.order": "cyclic-1",
    }
    config = recipe.of_method("fda", {**changes, "options.num_neighbors": 2}).config
    stream = prepare(config, only_check=True).stream
    assert len(stream.train) == len(stream.validation) == experiences
    assert [len(names) for names in stream.classes] == [classes]
    assert not stream.tasks and all(len(e.dataset[0]) == 2 for e in stream.train)
    assert stream.names[-1] == config.stream.sets[0].partition(":")[2]
