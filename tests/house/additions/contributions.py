"""The four contributions of ``CONTRIBUTING.md``, each made in a copy of the project."""

from __future__ import annotations

import ast
import shutil
from pathlib import Path

HERE = Path(__file__).parent

METHOD = """\
    "center": Method(
        about="Center: keeps the mean feature of a batch near the old model's; the number is λ",
        version=1,
        colour="#3f51b5",
        dark_colour="#9fa8ff",
        marker="*",
        plugin="CenterPlugin",
        knob="weight",
        strength=1,
        grid=(0.1, 0.3, 1, 3, 10),
    ),
"""
MEASURE = '''\
def mean_cosine(before: Tensor, after: Tensor) -> float:
    """Mean cosine between an image's features before and after, in [-1, 1].

    Args:
        before: [N, D] features of N images.
        after: [N, D] features of the same images.

    Raises:
        ValueError: when a shape differs, no row is given, or a feature is not finite.
    """
    first, second = (x.double() for x in _placed(before, after, same_width=True))
    return float((unit_rows(first) * unit_rows(second)).sum(dim=1).mean())


'''
MEASURE_ENTRY = """\
    "cosine": Measure(lambda before, after, labels, k: mean_cosine(before, after), "_Cosine"),
"""
MEASURE_REFERENCE = """

def mean_cosine(before: Rows, after: Rows) -> float:
    return sum(cosine(a, b) for a, b in zip(before, after, strict=True)) / len(before)
"""
MEASURE_TEST = """

def test_mean_cosine() -> None:
    a, b = pair()
    value = drift.mean_cosine(a, b)
    assert value == pytest.approx(judge.mean_cosine(a.numpy(), b.numpy()))
    assert drift.mean_cosine(a, 3 * a) == pytest.approx(1)
    assert drift.mean_cosine(a, -a) == pytest.approx(-1)
"""
MEASURE_LINE = """\
| `cosine` | `Drift_Cosine/<set>` | mean cosine of a test feature before and after |
"""
STREAM = '''\
@dataclass(frozen=True, config=STRICT)
class Mirrored:
    """The embedded stream, its first images mirrored left to right."""

    kind: Literal["mirrored"]
    sets: Annotated[tuple[str, ...], key("data sets to learn, in order")] = SEQUENCE
    most: Annotated[int, key("images of each split", ge=64)] = 800


'''
SCORE = '''\
def worst(record: Record) -> float:
    """Lowest test accuracy of an experience after the last one, in [0, 1]."""
    return min(float(value or 0) for value in outcome_of(record).accuracy[-1])


'''
COLUMN = """\
    Column(
        "worst",
        "Worst",
        "percent",
        "more",
        "least kept",
        "Lowest accuracy at the end on the test images of a data set of the stream.",
        phone=False,
    ),
"""


def add(tree: Path, source: str, target: str) -> None:
    """Copy a file of this folder to ``target`` of the tree, where no file may be."""
    path = tree / target
    assert not path.exists(), f"{target} is in the project already"
    shutil.copyfile(HERE / source, path)


def insert(path: Path, text: str, before: str) -> None:
    """Insert ``text`` before the only place where ``before`` stands; ``""`` is the end."""
    content = path.read_text(encoding="utf-8")
    if not before:
        path.write_text(content + text, encoding="utf-8")
        return
    assert content.count(before) == 1, f"{path}: {before!r} stands {content.count(before)} times"
    path.write_text(content.replace(before, text + before), encoding="utf-8")


def _value(content: str, name: str) -> ast.expr:
    """The value that a module assigns to ``name``."""
    (value,) = (
        node.value
        for node in ast.parse(content).body
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value is not None
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Name) and target.id == name
    )
    return value


def append_entry(path: Path, table: str, text: str) -> None:
    """Insert ``text`` before the line that closes the dict or tuple called ``table``."""
    content = path.read_text(encoding="utf-8")
    end = _value(content, table).end_lineno
    assert end is not None
    lines = content.splitlines(keepends=True)
    lines.insert(end - 1, text)
    path.write_text("".join(lines), encoding="utf-8")


def append_alternative(path: Path, union: str, name: str) -> None:
    """Add the type ``name`` to the union called ``union``."""
    content = path.read_text(encoding="utf-8")
    old = ast.get_source_segment(content, _value(content, union))
    assert old is not None
    path.write_text(content.replace(old, f"{old} | {name}"), encoding="utf-8")


def add_method(tree: Path) -> None:
    """The method "center": keeps the mean of a batch's embeddings near the teacher's."""
    add(tree, "center_loss.py", "avalanche_proxyfda/losses/center.py")
    add(tree, "center_plugin.py", "avalanche_proxyfda/plugins/center.py")
    add(tree, "center_reference.py", "tests/reference/center.py")
    add(tree, "center_checks.py", "tests/losses/test_center.py")
    add(tree, "center.md", "docs/methods/center.md")
    names = tree / "avalanche_proxyfda/plugins/__init__.pyi"
    insert(names, "from .center import CenterPlugin as CenterPlugin\n", before="from .digrap ")
    append_entry(tree / "benchmarks/methods/registry.py", "METHODS", METHOD)


def add_measure(tree: Path) -> None:
    """The measure "cosine": mean cosine of the features before and after."""
    table = tree / "avalanche_proxyfda/metrics/drift.py"
    insert(table, MEASURE, before="@dataclass(frozen=True)\nclass Measure:")
    append_entry(table, "MEASURES", MEASURE_ENTRY)
    insert(tree / "tests/reference/drift.py", MEASURE_REFERENCE, before="")
    test = tree / "tests/metrics/test_drift.py"
    insert(test, MEASURE_TEST, before="")
    insert(
        test,
        '        "cosine": drift.mean_cosine(rows, after),\n',
        before='        "otdd-kmeans": otdd(rows, labels, after, labels),\n',
    )
    insert(test, ', "cosine"', before=")\n\n\ndef test_measures_without_a_meaning")
    insert(tree / "docs/metrics.md", MEASURE_LINE, before="| `otdd-kmeans` | `Drift_")


def add_stream(tree: Path) -> None:
    """The kind "mirrored": the concepts stream with mirrored images."""
    kinds = tree / "benchmarks/config/streams.py"
    insert(kinds, STREAM, before="AnyStream = ")
    append_alternative(kinds, "AnyStream", "Mirrored")
    add(tree, "mirrored_stream.py", "benchmarks/streams/kinds/mirrored.py")


def add_column(tree: Path) -> None:
    """The column "worst": lowest accuracy at the end."""
    scores = tree / "benchmarks/results/scores.py"
    insert(scores, SCORE, before="def avg(record: Record)")
    append_entry(scores, "SCORES", '    "worst": worst,\n')
    append_entry(tree / "benchmarks/board/columns.py", "COLUMNS", COLUMN)
