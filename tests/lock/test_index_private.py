"""A private index on loopback, with its own certificate authority and basic authentication: whatever the user's
configuration of pip or uv says works for both resolvers and for downloads, and no password is left anywhere."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from mfbazel.wheel import fetch
from tests.lock.index_server import (
    Authority,
    Fault,
    Index,
    Spy,
    fake_keyring,
    forget_configuration,
    running,
    running_proxy,
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


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
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


@pytest.mark.parametrize("configure", CONFIGURATIONS)
@pytest.mark.parametrize("resolver", RESOLVERS)
def test_what_the_user_has_configured_locks_and_downloads(
    site: Site, configure: Callable[[Site], None], resolver: str
) -> None:
    configure(site)
    site.lock(resolver=resolver)
    assert site.versions() == {"alpha": "1.0", "beta": "1.0"}
    if resolver == "uv":
        before = len(site.index.paths("alpha-1.0-py3-none-any.whl"))
        site.fetch()
        assert len(site.index.paths("alpha-1.0-py3-none-any.whl")) > before
    assert {asked.user for asked in site.index.asked if asked.status == 200} == {USER}
    site.check()


@pytest.mark.parametrize("resolver", RESOLVERS)
def test_a_client_certificate_is_shown(site: Site, resolver: str) -> None:
    tls = site.authority.server(client_certificates=True)
    with running(site.root / "private", tls=tls) as index:
        site.set(PIP_INDEX_URL=index.url())
        text = site.lock(resolver=resolver, code=1)
        assert "a package index could not be reached, so nothing was locked" in text
        if resolver == "uv":
            assert "hint: the index asks for a client certificate: name a file with it and its key" in text
            text = site.fetch(code=1)
            assert "the package index could not be reached" in text
        site.set(PIP_CLIENT_CERT=str(site.authority.client()))
        site.lock(resolver=resolver)
        assert site.versions() == {"alpha": "1.0", "beta": "1.0"}
        if resolver == "uv":
            site.fetch()


def test_a_client_certificate_that_uv_is_told_of_is_shown_by_downloads(site: Site) -> None:
    with running(site.root / "private", tls=site.authority.server(client_certificates=True)) as index:
        site.set(UV_DEFAULT_INDEX=index.url(), SSL_CLIENT_CERT=str(site.authority.client()))
        site.lock()
        site.fetch()


@pytest.mark.parametrize("user", ["", "proxy-user:pr0xy-secret"])
@pytest.mark.parametrize("resolver", RESOLVERS)
def test_everything_goes_through_the_proxy(site: Site, user: str, resolver: str) -> None:
    in_the_url(site)
    with running_proxy(user) as proxy:
        site.set(**{"HTTPS_PROXY" if user else "PIP_PROXY": proxy.url(user)})
        site.lock(resolver=resolver)
        site.spy.secret = "pr0xy-secret"
        site.spy.check(site.root)
        assert set(proxy.asked) == {site.index.place}
        locking = len(proxy.asked)
        assert locking >= 2
        if resolver == "uv":
            site.fetch()
            assert len(proxy.asked) > locking


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_the_authority_may_be_named_in_any_variable(site: Site, variable: str) -> None:
    in_the_url(site)
    other = Authority(site.root / "other")
    # One that another program needs must not hide it.
    site.set(PIP_CERT=str(other.file), **{variable: str(site.authority.file)})
    site.lock()
    site.fetch()
    site.monkeypatch.delenv("PIP_CERT")
    site.lock("alpha", "beta", resolver="pip-tools" if sys.platform == "linux" else "uv")
    site.fetch()


@pytest.mark.parametrize("resolver", RESOLVERS)
def test_an_unknown_authority_is_an_error_with_what_to_do(site: Site, resolver: str) -> None:
    in_the_url(site)
    site.set(PIP_CERT=str(Authority(site.root / "other").file))
    text = site.lock(resolver=resolver, code=1)
    assert "a package index could not be reached, so nothing was locked" in text
    if resolver == "uv":
        assert "hint: nobody whom this machine trusts has signed the index's certificate" in text
    text = site.fetch(code=1)
    assert "could not be reached" in text
    assert "certificate" in text.lower()
    assert not (site.root / "x.lock").exists()
    site.check()


@pytest.mark.parametrize("refusal", [401, 403])
@pytest.mark.parametrize("resolver", RESOLVERS)
def test_a_wrong_password_is_an_error_although_another_index_has_the_package(
    site: Site, resolver: str, refusal: int
) -> None:
    wheel(site.root / "public", "alpha", "9.0")
    site.index.refusal = refusal
    site.set(PIP_INDEX_URL=site.public.url(), PIP_EXTRA_INDEX_URL=site.index.url(USER, PASSWORD))
    site.index.users = {USER: "another"}
    text = site.lock(resolver=resolver, code=1)
    assert "refuses the credentials" in text
    assert f"HTTP {refusal}" in text
    assert "nothing was locked" in text
    assert not (site.root / "x.lock").exists()
    site.check()


def test_an_index_that_refuses_what_it_does_not_have_may_be_named_as_such(site: Site) -> None:
    path = site.root / "uv.toml"
    url = site.index.url().replace("https://", f"https://{USER}:{QUOTED}@")
    text = f'[[index]]\nurl = "{url}"\nignore-error-codes = [403]\n'
    path.write_text(text, encoding="utf-8")
    site.index.faults.append(Fault("/simple/gamma/", "forbid"))
    site.set(UV_CONFIG_FILE=str(path), PIP_INDEX_URL=site.public.url())
    site.lock("gamma")
    assert site.versions() == {"gamma": "1.0"}
    path.write_text(text.replace("403", "404"), encoding="utf-8")
    assert "`ignore-error-codes` of its [[index]]" in site.lock("gamma", "gamma>0", code=1)


@pytest.mark.parametrize("configure", [in_the_url, with_netrc, with_keyring])
def test_modules_of_wheels_are_read_in_parts_with_the_same_credentials(
    site: Site, configure: Callable[[Site], None]
) -> None:
    configure(site)
    for name in ("metaflow", "packaging"):
        wheel(site.root / "private", name, "26.0", modules=[name, *(f"{name}{number}" for number in range(2000))])
    (site.root / "demo.py").write_text(FLOW, encoding="utf-8")
    arguments = ["--flow", "demo.py", "--lock-dir", "x.lock", "--label", "//x:x", "--python", HERE]
    site.run("-m", "mfbazel.lock", "flow", *arguments, "--runtime", "alpha", "--platform", MACHINE)
    assert site.versions() == {"alpha": "1.0", "beta": "1.0", "metaflow": "26.0", "packaging": "26.0"}
    answers = {asked.status for asked in site.index.asked if asked.method == "GET" and asked.path.endswith(".whl")}
    assert answers - {401} == {206}
    site.check()


def test_the_policys_index_gets_its_password_from_variables_and_leaves_it_nowhere(site: Site) -> None:
    policy = site.root / "mfbazel.toml"
    index = f'[[lock.index]]\nname = "corp"\nurl = "{site.index.url()}"\npackages = ["alpha", "beta"]\n'
    policy.write_text(index, encoding="utf-8")
    wheel(site.root / "public", "alpha", "9.0")
    site.set(PIP_INDEX_URL=site.public.url(), UV_INDEX_CORP_USERNAME=USER, UV_INDEX_CORP_PASSWORD=PASSWORD)
    site.lock("alpha", "gamma", options=["--policy", str(policy)])
    assert site.versions() == {"alpha": "1.0", "beta": "1.0", "gamma": "1.0"}
    site.fetch("alpha", "1.0", "--index-name", "corp", "--index-url", site.index.url())
    site.check()
    site.index.users = {USER: "another"}
    text = site.lock("alpha", options=["--policy", str(policy)], code=1)
    assert "refuses the credentials" in text
    text = site.fetch("alpha", "1.0", "--index-name", "corp", "--index-url", site.index.url(), code=1)
    assert "refuses the credentials" in text
    site.check()


def test_a_wrong_password_stops_a_download_with_the_reason(site: Site) -> None:
    in_the_url(site)
    site.index.users = {USER: "another"}
    text = site.fetch(code=1)
    assert f"alpha 1.0: the package index {site.index.url()}alpha/ refuses the credentials" in text
    assert "netrc" in text
    site.check()


def test_a_forbidden_index_without_credentials_is_one_without_the_package(site: Site) -> None:
    """As buckets are, which answer 403 for what they do not have."""
    with running(site.root / "private", faults=[Fault("/simple/gamma/", "forbid")]) as index:
        site.set(PIP_INDEX_URL=site.public.url(), PIP_EXTRA_INDEX_URL=index.url())
        site.lock("gamma", "alpha")
    assert site.versions() == {"alpha": "1.0", "beta": "1.0", "gamma": "1.0"}
