"""One file names accelerators; all others ask it, so that every accelerator takes the same path."""

from __future__ import annotations

import ast
import re

from tests.house.imports import modules

KINDS = ("cuda", "xpu", "mps", "nccl", "xccl")
NAMED = re.compile(rf"({'|'.join(KINDS)})(:\d+)?")
ATTRIBUTES = {*KINDS, "is_cuda", "is_xpu", "is_mps"}

HOME = "avalanche_proxyfda._accelerator"
EXCEPTIONS = {
    "benchmarks.experiment.numerics": "switches torch's settings of TF32, which belong to CUDA",
    "avalanche_proxyfda._random": "reads checkpoints whose device's stream has the older name",
}


def named_in(source: str) -> list[int]:
    """Return the lines of ``source`` that name an accelerator outside of prose."""
    lines = []
    for node in ast.walk(ast.parse(source)):
        text = node.value if isinstance(node, ast.Constant) else None
        if (isinstance(text, str) and NAMED.fullmatch(text)) or (
            isinstance(node, ast.Attribute) and node.attr in ATTRIBUTES
        ):
            lines.append(node.lineno)
    return lines


def test_only_one_file_names_accelerators() -> None:
    named = {name: named_in(path.read_text(encoding="utf-8")) for name, path in modules().items()}
    named = {name: lines for name, lines in named.items() if lines}
    assert HOME in named
    assert {k: v for k, v in named.items() if k != HOME and k not in EXCEPTIONS} == {}
    assert set(EXCEPTIONS) <= set(named), "an exception that is not needed any more"


def test_the_check_sees_each_spelling() -> None:
    source = 'torch.cuda.synchronize()\nx.device.type == "cuda"\ntorch.device("xpu:1")\nx.is_mps\n'
    assert sorted(named_in(source)) == [1, 2, 3, 4]
    assert named_in('"""Takes ``"cuda"`` or cpu."""\n') == []
