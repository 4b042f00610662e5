"""Advisories from files of every form."""

from __future__ import annotations

import json
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest

from mfbazel.audit import AuditError, Database, read_database


def record(id: str, name: str = "alpha", ecosystem: str = "PyPI", **more: Any) -> dict[str, Any]:
    affected = [{"package": {"ecosystem": ecosystem, "name": name}, "versions": ["1.0"]}]
    return {"id": id, "modified": "2026-01-02T00:00:00Z", "affected": affected, **more}


def write(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def pack(path: Path, entries: dict[str, object]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content if isinstance(content, str) else json.dumps(content))
    return path


def ids(database: Database, name: str = "alpha") -> list[str]:
    return sorted(advisory.id for advisory in database.of(name))


TWO = [record("A-1"), record("A-2")]


@pytest.mark.parametrize("form", ["list", "vulns", "lines", "named lines", "directory", "zip", "zip of lists"])
def test_every_form_gives_the_same(tmp_path: Path, form: str) -> None:
    lines = "\n".join(json.dumps(item) for item in TWO) + "\n\n"
    match form:
        case "list":
            path = write(tmp_path / "all.json", TWO)
        case "vulns":
            path = write(tmp_path / "all.json", {"vulns": TWO})
        case "lines":  # known by the content
            path = write(tmp_path / "all", lines)
        case "named lines":
            path = write(tmp_path / "all.jsonl", lines)
        case "directory":
            path = tmp_path / "all"
            write(path / "A-1.json", TWO[0])
            write(path / "deeper" / "A-2.json", TWO[1])
            write(path / "README.md", "not one of them")
        case "zip":
            path = pack(tmp_path / "all.zip", {"A-1.json": TWO[0], "A-2.json": TWO[1], "README": "not one of them"})
        case _:
            path = pack(tmp_path / "all.zip", {"all.json": TWO})
    database = read_database([path], {"alpha"})
    assert ids(database) == ["A-1", "A-2"]
    assert database.count == 2
    assert database.newest == "2026-01-02T00:00:00Z"


def test_one_record_is_a_database_and_several_add_up(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{id}.json", record(id)) for id in ("A-1", "A-2")]
    assert ids(read_database(paths, {"alpha"})) == ["A-1", "A-2"]


def test_names_are_normalized_and_ecosystems_have_suffixes(tmp_path: Path) -> None:
    records = [record("A-1", "Zope.Interface"), record("A-2", "zope_interface", "PyPI:extra")]
    records += [record("A-3", "zope-interface", "npm"), record("A-4", "zope-interface", "PyPI2")]
    database = read_database([write(tmp_path / "all.json", records)], {"zope-interface"})
    assert ids(database, "zope-interface") == ["A-1", "A-2"]
    assert database.count == 2


def test_withdrawn_records_do_not_count_and_of_the_same_id_the_one_modified_last_does(tmp_path: Path) -> None:
    old = record("A-1")
    new = record("A-1", modified="2026-03-01T00:00:00Z", withdrawn="2026-03-01T00:00:00Z")
    other = record("A-2", "beta", withdrawn="2026-01-02T00:00:00Z")
    paths = [write(tmp_path / "new.json", new), write(tmp_path / "old.json", [old, other])]
    database = read_database(paths, {"alpha", "beta"})
    assert (ids(database), ids(database, "beta"), database.count, database.newest) == ([], [], 0, "")


def test_ranges_of_commits_are_left_out(tmp_path: Path) -> None:
    commits = {"type": "GIT", "repo": "x", "events": [{"introduced": "0"}, {"fixed": "abc"}]}
    versions = {"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "2.0"}]}
    affected = [
        {"package": {"ecosystem": "PyPI", "name": "alpha"}, "ranges": [commits, versions]},
        {"ranges": [commits]},  # of no package
    ]
    database = read_database([write(tmp_path / "all.json", record("A-1", affected=affected))], {"alpha"})
    (item,) = database.of("alpha")[0].affected
    assert [[event.kind for event in events] for events in item.ranges] == [["introduced", "fixed"]]
    assert item.ranges[0][1].version == "2.0"


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("a.json", '{"id": "A-1",\n  "affected": [}', r"a\.json:2:16: the advisories are not JSON"),
        ("a.jsonl", '{"id": "A-1"}\n\n{"id": }\n', r"a\.jsonl:3:8: the advisories are not JSON"),
        ("a.json", '{"id": "A-1"}\n{"id": }\n', r"a\.json:2:8: the advisories are not JSON"),
        ("a.json", "", r"a\.json:1:1: the advisories are not JSON"),
        ("a.json", "3", r"a\.json: the advisory is not as the OSV schema says: record: not an object"),
        ("a.json", [record("A-1"), {"affected": []}], r"a\.json: \[1\]: the advisory .*: id: missing"),
        ("a.json", record("A-1", affected={}), r"the advisory A-1 .*: affected: not a list"),
        ("a.json", record("A-1", affected=[3]), r"A-1 .*: affected\[0\]: not an object"),
        ("a.json", record("A-1", affected=[{"package": {"name": "a"}}]), r"affected\[0\]\.package\.ecosystem: missing"),
        ("a.json", record("A-1", aliases=[1]), r"A-1 .*: aliases\[0\]: not a string"),
        ("a.json", record("A-1", summary=[]), r"A-1 .*: summary: not a string"),
        ("a.json", record("A-1", severity=[{"type": "CVSS_V3"}]), r"A-1 .*: severity\[0\]\.score: missing"),
    ],
)
def test_what_is_malformed_is_named_with_file_and_position(
    tmp_path: Path, file: str, content: object, said: str
) -> None:
    with pytest.raises(AuditError, match=said):
        read_database([write(tmp_path / file, content)], {"alpha"})


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"versions": "1.0"}, r"affected\[0\]\.versions: not a list"),
        ({"versions": [1.0]}, r"affected\[0\]\.versions\[0\]: not a string"),
        ({"ranges": [{}]}, r"affected\[0\]\.ranges\[0\]\.type: missing"),
        (
            {"ranges": [{"type": "ECOSYSTEM", "events": [{}]}]},
            r"affected\[0\]\.ranges\[0\]\.events\[0\]: not exactly one",
        ),
        (
            {"ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0", "fixed": "1"}]}]},
            r"affected\[0\]\.ranges\[0\]\.events\[0\]: not exactly one of introduced, fixed, last_affected, limit",
        ),
        (
            {"ranges": [{"type": "ECOSYSTEM", "events": [{"fixed": 1}]}]},
            r"affected\[0\]\.ranges\[0\]\.events\[0\]\.fixed: missing",
        ),
    ],
)
def test_the_place_in_a_malformed_record_is_named(tmp_path: Path, entry: dict[str, object], said: str) -> None:
    affected = [{"package": {"ecosystem": "PyPI", "name": "alpha"}, **entry}]
    archive = pack(tmp_path / "all.zip", {"A-1.json": record("A-1", affected=affected)})
    with pytest.raises(AuditError, match=r"all\.zip!A-1\.json: the advisory A-1 .*: " + said):
        read_database([archive], {"alpha"})


def test_what_cannot_be_read_or_is_for_others_is_said(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for path, said in [
        (tmp_path / "nothing.json", "nothing.json: cannot read the advisories: No such file"),
        (tmp_path / "empty", r"no \.json or \.jsonl or \.ndjson file is in this directory"),
        (pack(tmp_path / "none.zip", {"README": "x"}), r"no \.json .* in this archive"),
        (write(tmp_path / "npm.json", [record("A-1", ecosystem="npm")]), "no advisory is about PyPI, only about npm"),
    ]:
        with pytest.raises(AuditError, match=said):
            read_database([path], {"alpha"})


def test_a_damaged_archive_is_said_to_be_one(tmp_path: Path) -> None:
    path = pack(tmp_path / "all.zip", {"A-1.json": record("A-1", summary="x" * 5000)})
    content = bytearray(path.read_bytes())
    content[60:90] = b"\xff" * 30
    path.write_bytes(content)
    with pytest.raises(AuditError, match=r"all\.zip: the archive of advisories is damaged: .*Get it again"):
        read_database([path], {"alpha"})


@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
def test_advisories_that_nest_without_end_are_not_json(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"all{suffix}"
    path.write_text("[" * 200_000)
    with pytest.raises(AuditError, match="the advisories are not JSON"):
        read_database([path], {"alpha"})


def test_advisories_that_are_encrypted_are_damaged(tmp_path: Path) -> None:
    path = tmp_path / "all.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.json", "{}")
    data = bytearray(path.read_bytes())
    for place in (6, data.index(b"PK\1\2") + 8):
        data[place] |= 1
    path.write_bytes(data)
    with pytest.raises(AuditError, match=r"the archive of advisories is damaged: .*encrypted"):
        read_database([path], {"alpha"})


def test_the_whole_export_of_pypi_is_read_within_seconds(tmp_path: Path) -> None:
    events = [{"introduced": "0"}, {"fixed": "7.3"}]
    versions = [f"{major}.{minor}" for major in range(8) for minor in range(8)]
    with zipfile.ZipFile(tmp_path / "all.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for number in range(20_000):
            package = {"ecosystem": "PyPI", "name": f"package-{number // 4}", "purl": f"pkg:pypi/package-{number // 4}"}
            affected = [{"package": package, "ranges": [{"type": "ECOSYSTEM", "events": events}], "versions": versions}]
            body = record(f"PYSEC-{number}", affected=affected, summary=f"number {number}", details="words " * 300)
            archive.writestr(f"PYSEC-{number}.json", json.dumps(body))
    begin = time.process_time()
    database = read_database([tmp_path / "all.zip"], {f"package-{number}" for number in range(100)})
    seconds = time.process_time() - begin
    assert database.count == 20_000
    assert len(database.of("package-7")) == 4
    assert seconds < 10
    print(f"{seconds:.1f} s")
