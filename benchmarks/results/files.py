"""Files of records: each has a seal, and a file that is no valid record is refused."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from avalanche_proxyfda._files import write_bytes
from benchmarks.results.beside import is_beside
from benchmarks.results.confirmations import conflict, distinct, newest, preference
from benchmarks.results.identity import canonical, run_id_of
from benchmarks.results.record import ADAPTER, SCHEMA_VERSION, Record, plain

MAX_BYTES = 64 << 20  # far above any record; parsed JSON takes several times as much memory
SCHEMA_FILE = Path(__file__).with_name("record.schema.json")


class RefusedRecordError(ValueError):
    """The file is no record, or was edited after it was written; the message is the reason."""


def seal(content: dict[str, Any]) -> str:
    """Return the SHA-256 of a record's content without its ``sha256`` entry."""
    bare = {key: value for key, value in content.items() if key != "sha256"}
    return hashlib.sha256(canonical(bare)).hexdigest()


def sealed(record: Record) -> dict[str, Any]:
    """Return the content of a record's file: the record and its seal."""
    content = plain(record)
    return {**content, "sha256": seal(content)}


def write_record(path: Path, record: Record) -> None:
    """Write ``record`` atomically: after an error the old file stays.

    Raises:
        OSError: if the file cannot be written.
        ValueError: if the record holds a number that is not finite.
    """
    text = json.dumps(sealed(record), indent=1, ensure_ascii=False, allow_nan=False)
    write_bytes(path, f"{text}\n".encode())


def _no_constant(word: str) -> Any:
    raise RefusedRecordError(f"it holds {word}, which no measured value is")


def read_record(path: Path) -> Record:
    """Return the record in a file.

    Raises:
        RefusedRecordError: if the file is cut off, has another schema, was edited, or lacks a
            part of a record.
        OSError: if the file cannot be read.
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
    except (KeyError, TypeError) as error:  # the configuration lacks a part
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
        records: one record a run, in the order of run ids.
        refused: reason by name of the file.
        confirmations: by id of the used record the records that agree, the used one first; runs
            with one record are left out.
    """

    records: tuple[Record, ...]
    refused: dict[str, str]
    confirmations: dict[str, tuple[Record, ...]] = field(default_factory=dict)


def collect(places: Iterable[Path]) -> Collected:
    """Collect all records of files and folders; the order of the places does not matter.

    Files that runs and ``export`` write beside records are skipped, see :mod:`.beside`.

    A finished record is taken before a failed one, and a newer version of the method before an
    older one, which is not used. Finished records of one run and version that agree within the
    tolerance count once, and confirm each other. If they differ by more, none of them is used.
    Contents alone decide which record is used, see
    :func:`benchmarks.results.confirmations.preference`.

    Args:
        places: files, and folders that are searched for ``*.json`` at any depth.

    Raises:
        FileNotFoundError: if a place does not exist, or no place holds a JSON file.
    """
    found: dict[Path, int] = {}
    given = sorted(set(places))
    for place in given:
        if not place.exists():
            raise FileNotFoundError(f"{place} is not there; records come from python -m benchmarks")
        searched = (path for path in place.rglob("*.json") if not is_beside(path))
        for path in [place] if place.is_file() else searched:
            # with several folders, the name begins with the folder's own
            folders = len(path.relative_to(place).parts) + (len(given) > 1)
            found.setdefault(path, 1 if place.is_file() else folders)
    files = _short_names(found)
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
        by_run.setdefault(run_id_of(record.config), {})[name] = record
    whole = [r for same in by_run.values() for r in same.values() if r.status == "finished"]
    key = preference(whole, _seal_of)
    records: list[Record] = []
    confirmations: dict[str, tuple[Record, ...]] = {}
    for run_id, same in sorted(by_run.items()):
        if len(same) == 1:
            records += same.values()
            continue
        finished = newest({n: r for n, r in same.items() if r.status == "finished"})
        for name in [n for n, r in same.items() if r.status == "finished" and n not in finished]:
            del same[name]
            refused[name] = (
                f"run {run_id[:8]} has a newer version of the method in {', '.join(finished)}, "
                "and only the newest version counts"
            )
        apart = conflict(finished)
        if apart:
            for name in same:
                others = ", ".join(n for n in same if n != name)
                refused[name] = (
                    f"run {run_id[:8]} has another outcome in {others}, beyond the tolerance "
                    f"({apart}): neither is used"
                )
            continue
        usable = sorted(finished.values() or same.values(), key=key)
        records.append(usable[0])
        agreeing = distinct(usable, _seal_of)
        if finished and len(agreeing) > 1:
            confirmations[usable[0].run_id] = agreeing
    return Collected(tuple(records), dict(sorted(refused.items())), confirmations)


def _short_names(paths: dict[Path, int]) -> dict[str, Path]:
    """Return the paths by their last parts: as many as asked for, or as tell them apart.

    A page shows these names, so they hold no more of a user's folders than is needed.
    """
    parts = dict(paths)
    while True:
        names = {path: "/".join(path.parts[-count:]) for path, count in parts.items()}
        counts = Counter(names.values())
        same = [p for p, n in names.items() if counts[n] > 1 and parts[p] < len(p.parts)]
        if not same:
            break
        parts |= {path: parts[path] + 1 for path in same}
    return {n.encode("utf-8", "backslashreplace").decode(): path for path, n in names.items()}


def _seal_of(record: Record) -> str:
    return seal(plain(record))


def schema() -> dict[str, Any]:
    """Return the JSON schema of a record's file."""
    content: dict[str, Any] = ADAPTER.json_schema()
    content["properties"]["sha256"] = {
        "type": "string",
        "pattern": "^[0-9a-f]{64}$",
        "description": "hash of the other content as canonical JSON: keys sorted, no spaces, ASCII",
    }
    content["required"].append("sha256")
    content["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return content


def main() -> None:
    """Write ``record.schema.json`` anew: ``python -m benchmarks.results.files``."""
    write_bytes(SCHEMA_FILE, (json.dumps(schema(), indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
