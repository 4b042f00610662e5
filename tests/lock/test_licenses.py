"""The licence that a wheel's metadata names."""

from __future__ import annotations

import io
import json
import sys
import tracemalloc
import zipfile
from pathlib import Path

import pytest

from mfbazel.lock import cli
from mfbazel.lock.errors import LockError
from mfbazel.lock.wheels.licenses import license_in, license_of
from tests.lock.wheelhouse import use_only, wheel

OSI = "License :: OSI Approved"
BSD_TEXT = "BSD 3-Clause License\n        \n        Copyright (c) 2026, Somebody\n        All rights reserved.\n"


def metadata(*, expression: str = "", text: str = "", classifiers: tuple[str, ...] = ()) -> str:
    lines = ["Metadata-Version: 2.4", "Name: alpha", "Version: 1.0"]
    lines += [f"License-Expression: {expression}"] if expression else []
    lines += [f"License: {text}".rstrip()] if text else []
    lines += [f"Classifier: {item}" for item in ("Programming Language :: Python", *classifiers)]
    return "\n".join(lines) + "\n\nLicense: not a header, but text\n"


@pytest.mark.parametrize(
    ("expression", "text", "classifiers", "license"),
    [
        # PEP 639 first, in its canonical form.
        ("mit or apache-2.0", "GPL", (f"{OSI} :: BSD License",), "MIT OR Apache-2.0"),
        ("LicenseRef-Own-Terms", "", (), "LicenseRef-Own-Terms"),
        # A classifier that means one licence.
        ("", "see LICENSE", (f"{OSI} :: MIT License",), "MIT"),
        ("", "", (OSI, f"{OSI} :: GNU General Public License v3 or later (GPLv3+)"), "GPL-3.0-or-later"),
        # One that does not: the field tells more.
        ("", "bsd-3-clause", (f"{OSI} :: BSD License",), "BSD-3-Clause"),
        ("", "The Apache License, Version 2.0", (f"{OSI} :: Apache Software License",), "Apache-2.0"),
        ("", BSD_TEXT, (f"{OSI} :: BSD License",), "BSD-3-Clause"),
        ("", "New BSD", (), "BSD-3-Clause"),
        # Nothing sure: what is written.
        ("", "BSD", (f"{OSI} :: BSD License",), "BSD License"),
        ("", "Dual License", (f"{OSI} :: BSD License", f"{OSI} :: MIT License"), "BSD License, MIT License"),
        ("", "BSD", (), "BSD"),
        ("Own Terms 1.0", "", (), "Own Terms 1.0"),
        ("", "", ("License :: Other/Proprietary License",), "Other/Proprietary License"),
        # Nothing at all.
        ("", "", (), "unknown"),
        ("", "UNKNOWN", (), "unknown"),
        ("", "", (OSI,), "unknown"),
        ("", "Copyright (c) 2026 Somebody. Permission is hereby granted to nobody at all, ever.", (), "unknown"),
    ],
)
def test_the_first_that_says_something_sure_counts(
    expression: str, text: str, classifiers: tuple[str, ...], license: str
) -> None:
    assert license_in(metadata(expression=expression, text=text, classifiers=classifiers)) == license


def test_the_whole_text_of_a_licence_is_never_taken_for_its_name() -> None:
    assert license_in(metadata(text="Permission is granted\n        to nobody.")) == "unknown"


@pytest.mark.parametrize(
    ("file", "license"),
    [("alpha-1.0.dist-info/METADATA", "MIT"), ("vendored/alpha-1.0.dist-info/METADATA", "unknown")],
)
def test_metadata_of_what_a_wheel_bundles_is_not_its_own(file: str, license: str) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("alpha.py", "")
        archive.writestr(file, metadata(expression="MIT"))
    with zipfile.ZipFile(stream) as archive:
        assert license_of(archive) == license


FLOW = """
from metaflow import FlowSpec, step

class Demo(FlowSpec):
    @step
    def start(self):
        self.next(self.end)

    @step
    def end(self):
        pass
"""


def test_metadata_that_unpacks_to_more_than_any_is_not_read_to_its_end() -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("alpha-1.0.dist-info/METADATA", metadata(expression="MIT") + "x" * (64 << 20))
    tracemalloc.start()
    try:
        with zipfile.ZipFile(content) as archive:
            assert license_of(archive) == "MIT"
        assert tracemalloc.get_traced_memory()[1] < 80 << 20
    finally:
        tracemalloc.stop()


def test_a_lock_that_does_not_say_licences_is_stale_until_it_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = tmp_path / "wheelhouse"
    for name, license in (("metaflow", ""), ("packaging", ""), ("alpha", "ISC")):
        wheel(house, name, "2.20", license=license)
    use_only(house, tmp_path / "home", monkeypatch)
    (tmp_path / "demo.py").write_text(FLOW, encoding="utf-8")
    file = tmp_path / "demo.lock" / "flow.json"
    options = ["--flow", str(tmp_path / "demo.py"), "--lock-dir", str(file.parent), "--label", "//:demo"]
    options += ["--python", f"{sys.version_info.major}.{sys.version_info.minor}", "--runtime", "alpha"]
    assert cli.main(["flow", *options]) == 0
    text = file.read_text(encoding="utf-8")
    wheels = {item["name"]: item["license"] for item in json.loads(text)["wheels"].values()}
    assert wheels == {"alpha": "ISC", "metaflow": "unknown", "packaging": "unknown"}

    table = json.loads(text)
    for item in table["wheels"].values():
        del item["license"]
    file.write_text(json.dumps(table), encoding="utf-8")
    with pytest.raises(LockError, match="an older mfbazel made the lock: 3 of its wheels do not say their licence"):
        cli.main(["test", *options])
    assert cli.main(["flow", *options]) == 0
    assert file.read_text(encoding="utf-8") == text
    assert cli.main(["test", *options]) == 0
