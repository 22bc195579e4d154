"""The processor of a Mac, in the words of Linux."""

from __future__ import annotations

import platform
import subprocess

_COMMAND = ("sysctl", "machdep.cpu", "hw.cpufamily", "hw.cpusubfamily", "hw.optional")
_INTEL = {"vendor_id": "vendor", "cpu family": "family", "model": "model", "stepping": "stepping"}


def mac_facts() -> dict[str, str]:
    """Return what ``sysctl`` says of the processor under Linux's keys; nothing on other systems.

    An Intel Mac gives family, model and stepping. Of Apple's processors the family is
    ``hw.cpufamily``, the model is ``hw.cpusubfamily``, and the stepping is 0, since macOS shows
    none.
    """
    if platform.system() != "Darwin":
        return {}
    try:  # names that this Mac lacks are errors, and the rest is printed
        shown = subprocess.run(_COMMAND, capture_output=True, encoding="utf-8", timeout=10).stdout
    except (OSError, subprocess.TimeoutExpired):
        return {}
    pairs = (line.partition(":") for line in shown.splitlines())
    said = {key.strip(): value.strip() for key, _, value in pairs}
    brand = said.get("machdep.cpu.brand_string")
    facts = {} if brand is None else {"model name": brand}
    if "machdep.cpu.family" in said:
        parts = {key: f"machdep.cpu.{name}" for key, name in _INTEL.items()}
        facts |= {key: said[name] for key, name in parts.items() if name in said}
        features = (said.get(f"machdep.cpu.{name}", "") for name in ("features", "leaf7_features"))
        flags = " ".join(features).lower().replace("avx1.0", "avx").replace(".", "_").split()
    else:
        if brand is not None:
            facts["vendor_id"] = brand.partition(" ")[0]
        if "hw.cpufamily" in said and "hw.cpusubfamily" in said:
            family = int(said["hw.cpufamily"]) % 2**32  # it is printed as a signed number
            facts |= {"cpu family": f"{family}", "model": said["hw.cpusubfamily"], "stepping": "0"}
        there = (key for key, value in said.items() if value == "1")
        flags = [key.rpartition(".")[2].lower().removeprefix("feat_") for key in there]
    return {**facts, "flags": " ".join(flags)} if facts else {}
