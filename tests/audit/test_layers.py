"""What ``.audit -- --layers`` finds in the layers of images, and whose it says it is."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import zstandard

from fuzz.limit import limited
from mfbazel.audit import cli
from mfbazel.audit.errors import AuditError
from mfbazel.audit.images import audit_layers, takes
from mfbazel.audit.layer import LayerContent, read_layer
from mfbazel.audit.secrets import secrets
from mfbazel.container.bazel import BuiltImages
from mfbazel.errors import MfbazelError

SITE = "opt/venv/lib/python3.14/site-packages"
KEY = b"-----BEGIN RSA PRIVATE KEY-----\n" + base64.b64encode(bytes(range(100))) + b"\n-----END RSA PRIVATE KEY-----\n"
PACK: dict[str, Callable[[bytes], bytes]] = {"none": bytes, "gzip": gzip.compress, "zstd": zstandard.compress}
Member = tuple[str, bytes, int]


def tar(*members: Member) -> bytes:
    """Return a tar of files (name, content, mode); a name that ends with a slash is a directory."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content, mode in members:
            info = tarfile.TarInfo(name.rstrip("/"))
            info.type = tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE
            info.mode, info.size = mode, len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def image(layout: Path, layers: Sequence[tuple[str, bytes]], compression: str = "zstd") -> Path:
    """Write an image of layers, each with what the history says of it and its tar; return its directory."""
    suffix = "" if compression == "none" else f"+{compression}"

    def blob(data: bytes, media_type: str) -> dict[str, Any]:
        digest = hashlib.sha256(data).hexdigest()
        layout.joinpath("blobs/sha256").mkdir(parents=True, exist_ok=True)
        layout.joinpath("blobs/sha256", digest).write_bytes(data)
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}

    history = [{"created_by": "ENV A=1", "empty_layer": True}, *({"created_by": said} for said, _ in layers)]
    config = {"os": "linux", "config": {"WorkingDir": "/metaflow"}, "history": history}
    manifest = {
        "config": blob(json.dumps(config).encode(), "application/vnd.oci.image.config.v1+json"),
        "layers": [
            blob(PACK[compression](data), f"application/vnd.oci.image.layer.v1.tar{suffix}") for _, data in layers
        ],
    }
    top = blob(json.dumps(manifest).encode(), "application/vnd.oci.image.manifest.v1+json")
    layout.joinpath("oci-layout").write_text("{}", encoding="utf-8")
    layout.joinpath("index.json").write_text(json.dumps({"manifests": [top]}), encoding="utf-8")
    return layout


BASE = (
    "ADD base.tar /",
    tar(
        ("usr/bin/su", b"", 0o4755),
        ("tmp/", b"", 0o1777),
        ("srv/", b"", 0o777),
        ("srv/app/.netrc", b"password x", 0o600),
    ),
)
VENV = ("virtual environment of Python 3.14", tar(("opt/venv/pyvenv.cfg", b"", 0o644), ("metaflow/", b"", 0o777)))
PACKAGES = (
    "packages small",
    tar(
        (f"{SITE}/demo/key.pem", KEY, 0o644),
        (f"{SITE}/demo/open.py", b"", 0o666),
        (f"{SITE}/demo-1.0.dist-info/RECORD", b'demo/key.pem,,\n"demo/open.py",,\n../../../bin/tool,,\n', 0o644),
        ("opt/venv/bin/tool", b"", 0o6755),
    ),
)
FILES = (
    "first-party files",
    tar(("app/.env", b"API_TOKEN=abc\n", 0o644), ("app/.env.example", b"API_TOKEN=\n", 0o644)),
)


@pytest.mark.parametrize("compression", PACK)
def test_layers_are_read_and_each_finding_says_whose_it_is(tmp_path: Path, compression: str) -> None:
    train = image(tmp_path / "train", [BASE, VENV, PACKAGES, FILES], compression)
    end = image(tmp_path / "end", [BASE, VENV, PACKAGES], compression)
    audit = audit_layers({"train": train, "end": end}, ["/app"])
    found = {item.path: item for item in audit.findings}
    said = {path: (item.kind, item.origin, item.base, item.steps, item.counts) for path, item in found.items()}
    assert said == {
        "/usr/bin/su": ("setuid", "ADD base.tar /", True, ("train", "end"), False),
        "/srv": ("world-writable", "ADD base.tar /", True, ("train", "end"), False),
        "/srv/app/.netrc": ("secret", "ADD base.tar /", True, ("train", "end"), True),
        f"/{SITE}/demo/key.pem": ("secret", "demo==1.0", False, ("train", "end"), True),
        f"/{SITE}/demo/open.py": ("world-writable", "demo==1.0", False, ("train", "end"), True),
        "/opt/venv/bin/tool": ("setuid", "demo==1.0", False, ("train", "end"), True),
        "/app/.env": ("secret", "first-party files", False, ("train",), False),
    }
    assert found["/app/.env"].exempt == "/app"
    assert found["/opt/venv/bin/tool"].what == "setuid and setgid, mode 6755, owner 0:0"
    assert audit.layers == 4


def test_each_layer_is_read_once_and_progress_reaches_all_bytes(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    images = {name: image(tmp_path / name, [BASE, VENV]) for name in ("a", "b", "c")}
    audit = audit_layers(images, [], lambda done, total: told.append((done, total)))
    assert audit.layers == 2
    assert told[-1] == (audit.size, audit.size)


def entry(name: str, kind: bytes, mode: int, **more: Any) -> bytes:
    """Return a tar with one entry of any kind."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        info = tarfile.TarInfo(name)
        info.type, info.mode = kind, mode
        for attribute, value in more.items():
            setattr(info, attribute, value)
        archive.addfile(info)
    return out.getvalue()


@pytest.mark.parametrize(
    ("tar", "expected"),
    [
        (
            entry("app/tool", tarfile.LNKTYPE, 0o4755, linkname="bin/sh"),
            ("/app/tool", "setuid", "setuid, mode 4755, owner 0:0"),
        ),
        (
            entry("app/tool", tarfile.REGTYPE, 0o755, pax_headers={"SCHILY.xattr.security.capability": "\1"}),
            ("/app/tool", "setuid", "capabilities, mode 755, owner 0:0"),
        ),
        (entry("app/sda", tarfile.BLKTYPE, 0o666), ("/app/sda", "world-writable", "device, mode 666")),
        (
            entry("app/file", tarfile.LNKTYPE, 0o666, linkname="etc/passwd"),
            ("/app/file", "world-writable", "file, mode 666"),
        ),
        (entry("./", tarfile.DIRTYPE, 0o777), ("/", "world-writable", "directory, mode 777")),
        (entry("app//./x/", tarfile.DIRTYPE, 0o777), ("/app/x", "world-writable", "directory, mode 777")),
    ],
)
def test_an_entry_of_any_kind_is_judged_by_what_it_makes(
    tmp_path: Path, tar: bytes, expected: tuple[str, str, str]
) -> None:
    (found,) = read(tmp_path, tar, ["/metaflow", "/"]).found
    assert (found.path, found.kind, found.what) == expected


def test_symbolic_links_and_directories_that_are_meant_so_have_no_mode_that_counts(tmp_path: Path) -> None:
    assert not read(tmp_path, entry("a", tarfile.SYMTYPE, 0o777, linkname="b"), []).found
    assert not read(tmp_path, entry("./work/", tarfile.DIRTYPE, 0o777), ["/work/"]).found


def read(tmp_path: Path, tar: bytes, workdirs: Sequence[str]) -> LayerContent:
    """Read a layer that is not compressed."""
    blob = tmp_path / "layer.tar"
    blob.write_bytes(tar)
    digest = f"sha256:{hashlib.sha256(tar).hexdigest()}"
    return read_layer(blob, digest, "application/vnd.oci.image.layer.v1.tar", workdirs)


def test_a_record_that_is_none_names_no_owner_and_hides_nothing(tmp_path: Path) -> None:
    record = b'"' + b"x" * 200_000 + b"\n"
    layer = tar((f"{SITE}/demo-1.0.dist-info/RECORD", record, 0o644), ("opt/open", b"", 0o666))
    (found,) = read(tmp_path, layer, []).found
    assert (found.path, found.distribution) == ("/opt/open", None)


def test_an_extended_header_that_claims_very_much_is_damage(tmp_path: Path) -> None:
    head = tarfile.TarInfo("x")
    head.type, head.size = tarfile.XHDTYPE, 2 << 20
    with pytest.raises(AuditError, match="an extended header has 2097152 bytes"):
        read(tmp_path, head.tobuf(tarfile.GNU_FORMAT) + bytes(2 << 20), [])


def test_a_manifest_or_configuration_that_was_changed_is_noticed(tmp_path: Path) -> None:
    for at, (old, new) in enumerate([(b'"layers": [', b'"layerz": ['), (b'"/metaflow"', b'"/metaflux"')]):
        layout = image(tmp_path / str(at), [BASE, VENV])
        blob = next(path for path in (layout / "blobs/sha256").iterdir() if old in path.read_bytes())
        blob.write_bytes(blob.read_bytes().replace(old, new))
        with pytest.raises(AuditError, match=rf"{blob} was changed"):
            audit_layers({"train": layout}, [])


@pytest.mark.parametrize("size", ["1e999", "[" * 200_000, '"many"'])
def test_an_image_that_says_nonsense_is_not_whole(tmp_path: Path, size: str) -> None:
    layout = image(tmp_path, [BASE])
    index = (layout / "index.json").read_text()
    digest = json.loads(index)["manifests"][0]["digest"]
    manifest = (layout / "blobs/sha256" / digest.partition(":")[2]).read_text()
    layer = json.loads(manifest)["layers"][0]
    changed = manifest.replace(
        json.dumps(layer), json.dumps(layer).replace(f'"size": {layer["size"]}', f'"size": {size}')
    )
    name = hashlib.sha256(changed.encode()).hexdigest()
    (layout / "blobs/sha256" / name).write_text(changed)
    (layout / "index.json").write_text(index.replace(digest, f"sha256:{name}"))
    with pytest.raises(AuditError, match="is not a whole OCI image layout"):
        audit_layers({"train": layout}, [])


HOSTILE_TEXTS = {
    "key.pem": b"-----BEGIN PRIVATE KEY-----" + b"A: " * 40 + b"!",
    "blank/.env": b"\n" * 500_000 + b"x",
    "spaces/.env": b" " * 500_000 + b"x",
    "words/.env": b"token" * 100_000 + b"!",
    "etc/pip.conf": b"://a:" * 100_000 + b"\n" + b"a:" * 200_000,
    "x.txt": b"xoxb-12345678-" * 30_000 + b"glpat-" * 30_000 + b"AIza" * 30_000 + b"-----BEGIN " * 20_000,
}


@pytest.mark.parametrize("path", HOSTILE_TEXTS)
def test_no_file_makes_the_search_for_secrets_slow(path: str) -> None:
    with limited(5):  # of processor time; each takes less than 0.1
        list(secrets(path, HOSTILE_TEXTS[path]))


def test_a_layer_that_was_changed_is_noticed(tmp_path: Path) -> None:
    layout = image(tmp_path / "train", [BASE, PACKAGES], "none")
    for blob in (layout / "blobs/sha256").iterdir():
        if b"demo/open.py" in blob.read_bytes():
            blob.write_bytes(blob.read_bytes().replace(b"PRIVATE", b"PUBLICK"))
    with pytest.raises(AuditError, match=r"is damaged: its digest is sha256:.*Build the image again"):
        audit_layers({"train": layout}, [])


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_a_layer_that_is_cut_off_is_an_error(tmp_path: Path, compression: str) -> None:
    layout = image(tmp_path / "train", [("x", tar(("x", os.urandom(5000), 0o644)))], compression)
    largest = max((layout / "blobs/sha256").iterdir(), key=lambda path: path.stat().st_size)
    largest.write_bytes(largest.read_bytes()[:3000])
    with pytest.raises(AuditError, match=rf"the layer {largest}"):
        audit_layers({"train": layout}, [])


TOKENS = {
    "a private key": KEY,
    "an access key of AWS": b"id = 'AKIA" + b"ABCDEFGH23456789" + b"'",
    "a token of GitHub": b"token: ghp_" + b"a1" * 18,
    "a token of GitLab": b"glpat-" + b"a1B2" * 5,
    "a token of Slack": b"xoxb-" + b"1234567890-abcdefghijkl",
    "an API key of Google": b"AIza" + b"a1B2-" * 7,
    "a token of Hugging Face": b"hf_" + b"aB" * 17,
    "a token of a Python package index": b"pypi-AgE" + b"aB" * 40,
    "a token of npm": b"npm_" + b"a1" * 18,
    "a key of Anthropic": b"sk-ant-api03-" + b"aB1_-" * 18,
    "a key of OpenAI": b"sk-proj-" + b"aB1_-" * 10 + b"T3BlbkFJ" + b"aB1_-" * 10,
    "a key of an Azure account": b"AccountName=x;AccountKey=" + b"aB" * 43 + b"==;",
    "a token of Databricks": b"dapi" + b"0a" * 16,
    "a key of Stripe": b"sk_live_" + b"a1" * 12,
}


@pytest.mark.parametrize("what", TOKENS)
def test_a_token_is_found_by_its_form(what: str) -> None:
    assert list(secrets("app/x.py", b"x = 1\n" + TOKENS[what] + b"\n")) == [what]


FILES_WITH_SECRETS = {
    "root/.netrc": b"machine example.com login a password b",
    "home/u/.pypirc": b"[pypi]\nusername = a\npassword = b\n",
    "etc/pip.conf": b"[global]\nindex-url = https://user:pass@example.com/simple\n",
    "root/.config/pip/pip.conf": b"[global]\nextra-index-url=https://user:pass@example.com/simple\n",
    "root/.aws/credentials": b"[default]\naws_secret_access_key = x\n",
    "root/.docker/config.json": b'{"auths": {"example.com": {"auth": "dTpw"}}}',
    "root/.git-credentials": b"https://user:pass@example.com",
    "root/.kube/config": b"users:\n- user:\n    token: x\n",
    "app/.env": b"DEBUG=1\nDB_PASSWORD=x\n",
    "app/.env.local": b"  export  MyApiKey = x\n",
    "root/.config/gcloud/application_default_credentials.json": b'{"refresh_token": "1//x"}',
    "root/.kaggle/kaggle.json": b'{"username":"u","key":"x"}',
    "root/.config/gh/hosts.yml": b"github.com:\n    oauth_token: x\n",
    "root/.metaflowconfig/config.json": b'{"METAFLOW_SERVICE_AUTH_KEY": "x"}',
}


@pytest.mark.parametrize("path", FILES_WITH_SECRETS)
def test_a_file_of_credentials_is_found_by_its_name(path: str) -> None:
    assert len(list(secrets(path, FILES_WITH_SECRETS[path]))) == 1


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("x.py", b'PEM = "-----BEGIN RSA PRIVATE KEY-----"\nif line.startswith(PEM): pass\n'),
        ("cert.pem", KEY.replace(b"RSA PRIVATE KEY", b"CERTIFICATE")),
        ("docs.json", b"AKIAIOSFODNN7EXAMPLE"),
        ("x.py", b"'ghp_' + token"),
        ("etc/pip.conf", b"[global]\nindex-url = https://example.com/simple\n"),
        ("etc/pip.conf", b"[global]\nindex-url = https://${USER}:${PASS}@example.com/simple\n"),
        ("root/.docker/config.json", b'{"auths": {}, "credsStore": "x"}'),
        ("root/.docker/config.json", b"[]"),
        ("app/.env", b"DEBUG=1\n# TOKEN=x\nTOKEN=\n"),
        ("app/.env", b"TOKEN=$TOKEN\n"),
    ],
)
def test_what_only_mentions_secrets_is_none(path: str, content: bytes) -> None:
    assert list(secrets(path, content)) == []


@pytest.mark.parametrize(
    ("entry", "path", "taken"),
    [
        ("/usr/bin/su", "/usr/bin/su", True),
        ("usr/bin", "/usr/bin/su", True),
        ("/usr/*/su", "/usr/bin/su", True),
        ("/usr/*", "/usr/local/bin/su", True),
        ("/*/su", "/usr/bin/su", False),
        ("/opt/**/tests/*.pem", "/opt/venv/lib/x/tests/a.pem", True),
        ("**/*.pem", "/a.pem", True),
        ("/opt/**/tests/*.pem", "/opt/venv/lib/x/a.pem", False),
        ("/usr/bin/su", "/usr/bin/sudo", False),
    ],
)
def test_an_exempt_path_means_what_is_below_it(entry: str, path: str, taken: bool) -> None:
    assert takes(entry, path) is taken


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The workspace of a lock with one step, in the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BUILD_WORKSPACE_DIRECTORY", str(tmp_path))
    for name in ("BUILD_WORKING_DIRECTORY", "MFBAZEL_TARGET"):
        monkeypatch.delenv(name, raising=False)
    wheel = {"name": "demo", "version": "1.0", "file": "demo.whl", "size": 1, "modules": [], "license": "MIT"}
    environments = {"train": {"file": "train.txt", "wheels": {"linux/amd64": ["a"]}, "requirements": []}}
    lock = {"schema": 1, "flow": {"steps": [{"name": "train"}]}, "environments": environments, "wheels": {"a": wheel}}
    tmp_path.joinpath("demo.lock").mkdir()
    tmp_path.joinpath("demo.lock/flow.json").write_text(json.dumps({**lock, "layers": {}}), encoding="utf-8")
    return tmp_path


def run(*options: str) -> int:
    return cli.main(["--lock-dir", "demo.lock", "--label", "//flows:demo", *options])


def test_the_report_names_layer_path_wheel_and_steps_and_what_to_do(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    layout = image(workspace / "train", [BASE, VENV, PACKAGES])
    assert run("--image", f"train={layout}") == 1
    out = capsys.readouterr().out
    digest = audit_layers({"train": layout}, []).findings[0].layer
    assert "what looks like a secret" in out
    assert f"/{SITE}/demo/key.pem: a private key\n    demo==1.0, {digest[:19]}…, in train\n" in out
    assert "of the base, which does not count:" in out
    assert "/usr/bin/su: setuid, mode 4755" in out
    assert "4 files that should not be there" in out
    assert "[exempt] files of mfbazel.toml" in out
    assert KEY[40:60].decode() not in out, "what is found is named, and not shown"


def test_names_in_a_layer_are_printed_without_what_moves_the_cursor(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    layout = image(workspace / "train", [VENV, ("made \x1b[2J by", tar(("app/\x1b[2J\nx", b"", 0o666)))])
    assert run("--image", f"train={layout}") == 1
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert r"/app/\x1b[2J\nx: file, mode 666" in out


def test_files_that_somebody_looked_at_do_not_count(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    layout = image(workspace / "train", [BASE, VENV, PACKAGES])
    workspace.joinpath("mfbazel.toml").write_text(
        '[exempt]\nfiles = ["/srv/app", "/opt/venv/**/*"]\n', encoding="utf-8"
    )
    assert run("--image", f"train={layout}") == 0
    assert "exempt by '/srv/app': /srv/app/.netrc" in capsys.readouterr().out


def test_a_lock_that_nests_without_end_is_an_error_for_the_user(workspace: Path) -> None:
    workspace.joinpath("demo.lock/flow.json").write_text("[" * 200_000)
    with pytest.raises(MfbazelError, match=r"flow\.json"):
        run()


@pytest.mark.parametrize("file", ["/etc/passwd", "../other.txt", "no text.txt"])
def test_a_lock_reads_no_file_but_texts_of_its_own_directory(workspace: Path, file: str) -> None:
    workspace.joinpath("other.txt").write_text("a==1\n")
    workspace.joinpath("demo.lock/no text.txt").write_bytes(b"\xff\xfe")
    lock = workspace.joinpath("demo.lock/flow.json")
    lock.write_text(lock.read_text().replace('"train.txt"', json.dumps(file)))
    with pytest.raises(MfbazelError, match=r"flow\.json: not a lock: .*Delete it and run"):
        run()


def test_layers_are_built_only_when_they_are_asked_for(
    workspace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[str] = []

    def build(label: str, *_: object) -> BuiltImages:
        built.append(label)
        return BuiltImages({"train": image(workspace / "train", [VENV])})

    monkeypatch.setattr(cli, "build_images", build)
    assert run("--json") == 0
    assert built == []
    assert "layers" not in json.loads(capsys.readouterr().out)
    assert run("--layers", "--json") == 0
    assert built == ["//flows:demo"]
    assert json.loads(capsys.readouterr().out)["layers"]["findings"] == []
    assert run("--layers") == 0
    assert "no secret, and nothing setuid or writable for all is above the bases" in capsys.readouterr().out


def test_json_has_every_finding(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    layout = image(workspace / "train", [BASE, VENV, PACKAGES])
    assert run("--image", f"train={layout}", "--json") == 1
    found = json.loads(capsys.readouterr().out)["layers"]
    assert found["count"] == 3
    assert [item for item in found["findings"] if item["path"] == "/usr/bin/su"] == [
        {
            "kind": "setuid",
            "path": "/usr/bin/su",
            "what": "setuid, mode 4755, owner 0:0",
            "layer": next(item["layer"] for item in found["findings"] if item["base"]),
            "origin": "ADD base.tar /",
            "base": True,
            "steps": ["train"],
            "exempt": None,
            "counts": False,
        }
    ]


def test_a_directory_that_is_no_image_is_named(workspace: Path) -> None:
    workspace.joinpath("empty").mkdir()
    with pytest.raises(AuditError, match="empty is not a whole OCI image layout"):
        run("--image", "train=empty")
    with pytest.raises(AuditError, match="--image nowhere: there is no such file or directory"):
        run("--image", "train=nowhere")
