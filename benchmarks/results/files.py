"""Records on disk: sealed, validated as they are read, refused with the reason."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from avalanche_proxyfda._files import write_bytes
from benchmarks.results.identity import canonical
from benchmarks.results.record import ADAPTER, SCHEMA_VERSION, Record, plain

MAX_BYTES = 64 << 20  # far above any; JSON takes several times as much memory
SCHEMA_FILE = Path(__file__).with_name("record.schema.json")


class RefusedRecordError(ValueError):
    """A file that is no record, or not as it was written; the message is the reason."""


def seal(content: dict[str, Any]) -> str:
    """SHA-256 of everything in a record's file but the seal itself."""
    bare = {key: value for key, value in content.items() if key != "sha256"}
    return hashlib.sha256(canonical(bare)).hexdigest()


def sealed(record: Record) -> dict[str, Any]:
    """What a record's file holds."""
    content = plain(record)
    return {**content, "sha256": seal(content)}


def write_record(path: Path, record: Record) -> None:
    """Write ``record`` whole, or leave what was there.

    Raises:
        OSError: when it cannot be written.
        ValueError: when it holds a number that is not finite.
    """
    text = json.dumps(sealed(record), indent=1, ensure_ascii=False, allow_nan=False)
    write_bytes(path, f"{text}\n".encode())


def _no_constant(word: str) -> Any:
    raise RefusedRecordError(f"it holds {word}, which no measured value is")


def read_record(path: Path) -> Record:
    """The record in a file.

    Raises:
        RefusedRecordError: when it is cut off, of another schema, was edited, or does not hold
            what a record must.
        OSError: when it cannot be read.
    """
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise RefusedRecordError(f"it has {size} bytes: a record has {MAX_BYTES} at most")
    if not (path.is_file() or path.is_dir()):
        raise RefusedRecordError("it is a pipe or a device")
    try:
        content = json.loads(path.read_bytes(), parse_constant=_no_constant)
    except RefusedRecordError:
        raise
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise RefusedRecordError(f"it is cut off, or no JSON: {error}") from None
    if not isinstance(content, dict):
        raise RefusedRecordError("it is JSON, but no record")
    version = content.get("schema_version")
    if version != SCHEMA_VERSION or isinstance(version, bool):
        raise RefusedRecordError(_other_version(version))
    try:
        same = content.get("sha256") == seal(content)
    except ValueError:  # 1e999 is read as infinity
        raise RefusedRecordError("it holds a number that is not finite") from None
    if not same:
        raise RefusedRecordError(
            "its hash is not that of its content: it was edited after it was written"
        )
    content.pop("sha256")
    try:
        return ADAPTER.validate_json(canonical(content))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise RefusedRecordError(f"{place or 'it'}: {first['msg']}") from None
    except (KeyError, TypeError) as error:  # of a configuration that is none
        raise RefusedRecordError(f"its configuration is not one: {error!r}") from None


def _other_version(version: object) -> str:
    if version is None:
        return "it has no schema_version: no record, or one from before schemas; run it again"
    if isinstance(version, int) and version > SCHEMA_VERSION:
        return f"schema {version} is newer than {SCHEMA_VERSION}, which this version reads: update"
    return f"schema {version!r} is older than {SCHEMA_VERSION} and cannot be migrated: run it again"


@dataclass(frozen=True)
class Collected:
    """Records, and files that are not used, with the reasons.

    Attributes:
        records: one a run, by run id.
        refused: reason by file, as it was found.
    """

    records: tuple[Record, ...]
    refused: dict[str, str]


def collect(places: Iterable[Path]) -> Collected:
    """All records of files and folders, whatever their order.

    Of several of one run, those with the same outcome count once, a finished one before a
    failed one; when finished ones differ, none of them is used.

    Raises:
        FileNotFoundError: when a place is not there, or no JSON file is in any of them.
    """
    files: dict[str, Path] = {}
    given = sorted(set(places))
    for place in given:
        if not place.exists():
            raise FileNotFoundError(f"{place} is not there; records come from python -m benchmarks")
        for path in [place] if place.is_file() else place.rglob("*.json"):
            name = path.name if place.is_file() else path.relative_to(place).as_posix()
            # of several places, as they were given
            name = name if len(given) == 1 else path.as_posix()
            files[name.encode("utf-8", "backslashreplace").decode()] = path
    if not files:
        raise FileNotFoundError(
            "no record (*.json) in " + ", ".join(map(str, given)) + "; python -m benchmarks demo, "
            "run or sweep makes some"
        )
    refused: dict[str, str] = {}
    by_run: dict[str, dict[str, Record]] = {}
    for name, path in sorted(files.items()):
        try:
            record = read_record(path)
        except (RefusedRecordError, OSError) as error:
            refused[name] = getattr(error, "strerror", None) or str(error)
            continue
        by_run.setdefault(record.run_id, {})[name] = record
    kept = []
    for run_id, same in sorted(by_run.items()):
        finished = {n: r for n, r in same.items() if r.status == "finished"}
        usable = finished or same
        if len(same) == 1:
            kept += same.values()
            continue
        if len({canonical(r.reproducible()) for r in finished.values()}) > 1:
            for name in same:
                others = ", ".join(n for n in same if n != name)
                refused[name] = f"run {run_id[:8]} has another outcome in {others}: neither is used"
            continue
        # of equals always the same one, whatever the files are called
        kept.append(min(usable.values(), key=lambda r: seal(plain(r))))
    return Collected(tuple(kept), dict(sorted(refused.items())))


def schema() -> dict[str, Any]:
    """The JSON schema of a record's file."""
    made: dict[str, Any] = ADAPTER.json_schema()
    made["properties"]["sha256"] = {
        "type": "string",
        "pattern": "^[0-9a-f]{64}$",
        "description": "of the rest, as canonical JSON: keys sorted, no spaces, ASCII",
    }
    made["required"].append("sha256")
    made["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return made


def main() -> None:
    """Write ``record.schema.json`` anew: ``python -m benchmarks.results.files``."""
    write_bytes(SCHEMA_FILE, (json.dumps(schema(), indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
