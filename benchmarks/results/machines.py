"""Two machines of one run: what differs that numbers depend on."""

from __future__ import annotations

from typing import Any

from benchmarks.results.record import Cpu, How

_OWN = "avalanche-proxyfda"
_OF_CPU = {
    "vendor": "vendor of the processor",
    "family": "family of the processor",
    "model": "model of the processor",
    "stepping": "stepping of the processor",
    "instructions": "instruction sets",
    "torch_capability": "torch's CPU capability",
    "blas": "BLAS",
    "onednn": "oneDNN",
    "limits": "environment variables of kernels",
}


def machine_changes(then: How, now: How) -> list[str]:
    """Return the differences of machine and libraries that may explain other numbers.

    Args:
        then: provenance of the first record.
        now: provenance of the second record.

    The parts of the processor are compared if both records hold them.
    """
    first, second = _facts(then), _facts(now)
    if then.machine.cpu is not None and now.machine.cpu is not None:
        first |= _cpu_facts(then.machine.cpu)
        second |= _cpu_facts(now.machine.cpu)
    return [
        f"{name}: {_text(first.get(name))} then, {_text(second.get(name))} now"
        for name in dict.fromkeys((*first, *second))
        if first.get(name) != second.get(name)
    ]


def is_known(how: How) -> bool:
    """Return True if the record holds its processor in full."""
    return how.machine.cpu is not None and how.machine.cpu.known


def same_machine(then: How, now: How) -> bool:
    """Return True if numbers must be the same bits: processor, libraries and threads are equal.

    Both processors must be known in full, so older records are of no machine. An accelerator
    repeats its bits with deterministic algorithms alone.
    """
    machine = now.machine
    repeats = machine.device == "cpu" or machine.deterministic.get("algorithms", False)
    return repeats and is_known(then) and is_known(now) and not machine_changes(then, now)


def code_changes(then: How, now: How) -> list[str]:
    """Return the differences of the code that may explain other numbers."""
    pairs = (
        ("version of the method", then.code.version, now.code.version),
        ("versions of the companions", then.code.companion_versions, now.code.companion_versions),
        ("version of this package", then.versions.get(_OWN), now.versions.get(_OWN)),
        ("commit", _commit(then), _commit(now)),
    )
    return [f"{name}: {one} then, {two} now" for name, one, two in pairs if one != two]


def _commit(how: How) -> str:
    commit = (how.code.commit or "unknown")[:12]
    return f"{commit} with uncommitted changes" if how.code.changed else commit


def _facts(how: How) -> dict[str, Any]:
    """Return what numbers depend on, by name, without the parts of the processor."""
    machine = how.machine
    return {
        "processor": machine.processor,
        "device": machine.device,
        "threads": machine.threads,
        "ranks": machine.ranks,
        "dtype": machine.dtype,
        "determinism": machine.deterministic,
        **{name: text for name, text in how.versions.items() if name != _OWN},
    }


def _cpu_facts(cpu: Cpu) -> dict[str, Any]:
    return {name: getattr(cpu, key) for key, name in _OF_CPU.items()}


def _text(value: Any) -> str:
    if value is None:
        return "not recorded"
    if isinstance(value, dict):
        return ", ".join(f"{key}={text}" for key, text in value.items()) or "none"
    if isinstance(value, tuple):
        return " ".join(map(str, value)) or "none"
    return str(value)
