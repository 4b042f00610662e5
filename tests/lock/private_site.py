"""A private index on loopback, with its own certificate authority and basic authentication, and the ways in which a
user may have told pip or uv of it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from mfbazel.wheel import fetch
from tests.lock.index_server import (
    Authority,
    Index,
    Spy,
    fake_keyring,
    forget_configuration,
    running,
)
from tests.lock.wheelhouse import wheel

USER, PASSWORD = "builder@example.com", "pa:ss-w0rd%41/+#"
QUOTED = "pa%3Ass-w0rd%2541%2F%2B%23"
HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
MACHINE = {"x86_64": "linux/amd64", "aarch64": "linux/arm64"}.get(os.uname().machine, "linux/amd64")
RESOLVERS = [
    "uv",
    pytest.param("pip-tools", marks=pytest.mark.skipif(sys.platform != "linux", reason="resolves for this machine")),
]


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


@dataclass
class Site:
    """What a test works with. ``own``: files of the configuration that hold the password."""

    root: Path
    index: Index
    public: Index
    authority: Authority
    monkeypatch: pytest.MonkeyPatch
    spy: Spy
    own: list[Path] = field(default_factory=list)

    def set(self, **variables: str) -> None:
        for name, value in variables.items():
            self.monkeypatch.setenv(name, value)

    def run(self, *command: str, code: int = 0) -> str:
        """Run a Python program; return everything it wrote."""
        result = subprocess.run(
            [sys.executable, *command],
            cwd=self.root,
            env={**os.environ, **self.spy.environment()},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert result.returncode == code, result.stdout
        assert PASSWORD not in result.stdout
        assert QUOTED not in result.stdout
        return result.stdout

    def lock(self, *requirements: str, resolver: str = "uv", code: int = 0, options: Sequence[str] = ()) -> str:
        spec = self.root / "spec.json"
        environments = {"tools": {"python": HERE, "requirements": list(requirements) or ["alpha"]}}
        spec.write_text(json.dumps({"environments": environments, "platforms": [MACHINE]}), encoding="utf-8")
        arguments = ["--spec", str(spec), "--lock-dir", str(self.root / "x.lock"), "--label", "//x:x"]
        return self.run("-m", "mfbazel.lock", "environments", *arguments, "--resolver", resolver, *options, code=code)

    def versions(self) -> dict[str, str]:
        document: dict[str, Any] = json.loads((self.root / "x.lock" / "flow.json").read_text(encoding="utf-8"))
        return {entry["name"]: entry["version"] for entry in document["wheels"].values()}

    def fetch(self, name: str = "alpha", version: str = "1.0", *options: str, code: int = 0) -> str:
        """Download a wheel as a build does, with an empty wheel cache."""
        file = f"{name}-{version}-py3-none-any.whl"
        sha256 = hashlib.sha256((self.index.directory / file).read_bytes()).hexdigest()
        self.set(MFBAZEL_WHEEL_CACHE=str(self.root / f"wheels-{len(self.index.asked)}"))
        arguments = ["--name", name, "--version", version, "--file", file, "--sha256", sha256]
        output = self.root / "out" / file
        text = self.run(fetch.__file__, *arguments, "--output", str(output), *options, code=code)
        assert output.exists() == (code == 0)
        output.unlink(missing_ok=True)
        return text

    def check(self) -> None:
        """Fail when the password is anywhere but in the user's own files."""
        for secret in (PASSWORD, QUOTED):
            self.spy.secret = secret
            self.spy.check(self.root, own=self.own)


@contextlib.contextmanager
def private_site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A private index over TLS, a public one, and nothing configured but the authority's certificate."""
    wheel(tmp_path / "private", "alpha", "1.0", ("beta",))
    wheel(tmp_path / "private", "beta", "1.0")
    wheel(tmp_path / "public", "gamma", "1.0")
    forget_configuration(tmp_path / "home", monkeypatch)
    authority = Authority(tmp_path / "authority")
    monkeypatch.setenv("PIP_CERT", str(authority.file))
    spy = Spy(tmp_path / "spy", PASSWORD)
    with (
        running(tmp_path / "private", tls=authority.server(), users={USER: PASSWORD}) as index,
        running(tmp_path / "public") as public,
    ):
        yield Site(tmp_path, index, public, authority, monkeypatch, spy)


def in_the_url(site: Site) -> None:
    site.set(PIP_INDEX_URL=site.index.url(USER, PASSWORD))


def in_a_file_of_pip(site: Site) -> None:
    path = site.root / "home" / "pip.conf"
    path.write_text(f"[global]\nindex-url = {site.index.url(USER, PASSWORD)}\n", encoding="utf-8")
    site.own.append(path)
    site.set(PIP_CONFIG_FILE=str(path))


def as_extra_index(site: Site) -> None:
    site.set(PIP_INDEX_URL=site.public.url(), PIP_EXTRA_INDEX_URL=site.index.url(USER, PASSWORD))


def as_find_links(site: Site) -> None:
    site.set(PIP_NO_INDEX="1", PIP_FIND_LINKS=site.index.url(USER, PASSWORD, "/packages/"))


def with_netrc(site: Site) -> None:
    path = site.root / "home" / "netrc"
    path.write_text(f'machine 127.0.0.1 login {USER} password "{PASSWORD}"\n', encoding="utf-8")
    path.chmod(0o600)
    site.own.append(path)
    site.set(PIP_INDEX_URL=site.index.url(), NETRC=str(path))


def with_keyring(site: Site) -> None:
    log = fake_keyring(site.root / "home" / "bin", site.index.place, USER, PASSWORD)
    site.own.append(log.with_name("keyring.data"))
    site.set(PIP_KEYRING_PROVIDER="subprocess", PIP_INDEX_URL=site.index.url(USER))
    site.set(PATH=f"{log.parent}{os.pathsep}{os.environ['PATH']}")


def with_variables_of_uv(site: Site) -> None:
    site.set(UV_DEFAULT_INDEX=site.index.url(USER, PASSWORD))


def with_a_named_index_of_uv(site: Site) -> None:
    site.set(UV_DEFAULT_INDEX=site.public.url(), UV_INDEX=f"corp-1={site.index.url()}")
    site.set(UV_INDEX_CORP_1_USERNAME=USER, UV_INDEX_CORP_1_PASSWORD=PASSWORD)


def in_a_file_of_uv(site: Site) -> None:
    path = site.root / "home" / "XDG_CONFIG_HOME" / "uv" / "uv.toml"
    path.parent.mkdir()
    text = f'[[index]]\nname = "corp"\nurl = "{site.index.url()}"\ndefault = true\n'
    path.write_text(text, encoding="utf-8")
    site.set(UV_INDEX_CORP_USERNAME=USER, UV_INDEX_CORP_PASSWORD=PASSWORD)


CONFIGURATIONS = [
    in_the_url,
    in_a_file_of_pip,
    as_extra_index,
    as_find_links,
    with_netrc,
    with_keyring,
    with_variables_of_uv,
    with_a_named_index_of_uv,
    in_a_file_of_uv,
]
