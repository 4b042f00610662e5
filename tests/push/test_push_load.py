"""Loading into a local container engine."""

from __future__ import annotations

import json
import shlex
import tarfile
from pathlib import Path

import pytest

from bench.push_rig import write_layout
from mfbazel.push.__main__ import main
from mfbazel.push.errors import PushError
from mfbazel.push.layout import hash_file


def _engine(tmp_path: Path, name: str, script: str) -> Path:
    """Put a stand-in for an engine on disk; it logs its arguments."""
    path = tmp_path / "bin" / name
    path.parent.mkdir(exist_ok=True)
    log = shlex.quote(str(tmp_path / "log"))
    path.write_text(f'#!/bin/sh\necho "$@" >> {log}\n{script}\n')
    path.chmod(0o755)
    return path


def test_podman_reads_the_layout_itself_and_tags_what_it_got(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_layout(tmp_path / "tr:ain", {"train": b"train"})
    seen = shlex.quote(str(tmp_path / "seen"))
    script = f'[ "$1" = pull ] || exit 0; cp "${{3#oci:}}/index.json" {seen}; echo id-of-image'
    engine = _engine(tmp_path, "podman", script)
    assert main(["load", f"--image=train={tmp_path}/tr:ain", f"--loader={engine}", "--tag=churn_flow"]) == 0
    pull, tag = (tmp_path / "log").read_text().splitlines()
    assert pull.startswith("pull --quiet oci:/")
    assert tag == "tag id-of-image churn_flow:train"
    assert (tmp_path / "seen").read_bytes() == (tmp_path / "tr:ain/index.json").read_bytes()
    assert "train  → churn_flow:train" in capsys.readouterr().out


def test_docker_gets_an_archive_that_is_both_an_oci_layout_and_a_docker_archive(tmp_path: Path) -> None:
    digest = write_layout(tmp_path / "train", {"base": b"base", "train": b"train"})
    engine = _engine(tmp_path, "docker", f"cat > {tmp_path}/received.tar")
    assert main(["load", f"--image=train={tmp_path}/train", f"--loader={engine}", "--tag=ml/flow"]) == 0
    assert (tmp_path / "log").read_text() == "load --quiet\n"
    with tarfile.open(tmp_path / "received.tar") as archive:
        archive.extractall(tmp_path / "out", filter="data")
    descriptor = json.loads((tmp_path / "out/index.json").read_text())["manifests"][0]
    assert descriptor["digest"] == digest
    assert descriptor["annotations"]["io.containerd.image.name"] == "ml/flow:train"
    entry = json.loads((tmp_path / "out/manifest.json").read_text())[0]
    assert entry["RepoTags"] == ["ml/flow:train"]
    assert len(entry["Layers"]) == 2
    for name in (entry["Config"], *entry["Layers"], f"blobs/{digest.replace(':', '/')}"):
        assert hash_file(tmp_path / "out" / name) == f"sha256:{name.rpartition('/')[2]}"


@pytest.mark.parametrize("name", ["podman", "docker"])
def test_an_engine_that_fails_is_quoted(tmp_path: Path, name: str) -> None:
    write_layout(tmp_path / "train", {"train": b"train"})
    engine = _engine(tmp_path, name, "echo no daemon >&2; exit 7")
    with pytest.raises(
        PushError, match=rf"{name} .*failed with exit status 7 while loading {tmp_path}/train: no daemon"
    ):
        main(["load", f"--image=train={tmp_path}/train", f"--loader={engine}", "--tag=x"])


def test_no_engine_is_an_error_that_names_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PushError, match=r"podman and docker are not on PATH .*Install podman or docker"):
        main(["load", f"--image=train={tmp_path}", "--tag=x"])


@pytest.mark.parametrize("name", ["Flow", "flow:v1", "", "flow@x"])
def test_an_invalid_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(PushError, match=rf"the name {name!r} is invalid \(option --tag\)"):
        main(["load", f"--image=train={tmp_path}", f"--tag={name}"])
