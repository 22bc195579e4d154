"""Builds the second device once for each torch and source."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

import torch

SOURCE = Path(__file__).with_name("device.cpp")
FLAGS = ["-O0"]  # the tensors are small, and a faster build counts more


def missing_tool(path: str | None = None) -> str | None:
    """Return why the device cannot be built with the tools on ``path``; None if it can."""
    if torch.__version__ < (2, 11):
        return "the second device uses the interface of torch 2.11 for devices"
    compiler = os.environ.get("CXX", "c++")
    for tool, use in ((compiler, "a C++ compiler"), ("ninja", "the build tool of torch")):
        if shutil.which(tool, path=path) is None:
            return f"{tool} is not there: the second device needs {use}"
    return None


def library() -> Path:
    """Return the built device, from torch's cache of extensions or newly built."""
    from torch.utils import cpp_extension  # warns where there is no CUDA

    key = hashlib.sha256(SOURCE.read_bytes())
    key.update(repr((torch.__version__, FLAGS)).encode())
    name = f"second_device_{key.hexdigest()[:16]}"
    root = Path(os.environ.get("TORCH_EXTENSIONS_DIR") or cpp_extension.get_default_build_root())
    built = root / f"{name}.so"
    if not built.exists():
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=root) as folder:
            cpp_extension.load(
                name, [str(SOURCE)], FLAGS, build_directory=folder, is_python_module=False
            )
            os.replace(Path(folder) / f"{name}.so", built)
    return built
