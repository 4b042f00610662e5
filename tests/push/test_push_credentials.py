"""No secret is left anywhere by a push: not in what it prints, in files, or in what other processes see."""

from __future__ import annotations

import base64
import json
import os
import stat
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from bench.push_rig import random_content
from tests.push.fault_rig import Flow, Outcome
from tests.push.faulty_proxy import Fault, FaultyProxy, Reply, TokenService, basic_auth
from tests.push.registries import PASSWORD, USERNAME, Registry, docker_registry

BASIC64 = base64.b64encode(f"{USERNAME}:{PASSWORD}".encode()).decode()
REFRESH = "refresh-t0ken-of-the-user"
HELPER = """\
#!{python} -S
import json, os, sys
host = sys.stdin.read()
print(json.dumps({{"ServerURL": host, "Username": {user!r}, "Secret": {secret!r}}}))
"""
# Notes, in every Python process, its command line and environment, and those of the processes that it starts.
SPY = """\
import os, sys
def _note(*what):
    with open(os.environ["MFBAZEL_TEST_SPY"], "a") as stream:
        stream.write(repr(what) + chr(10))
def _hook(event, arguments):
    if event in ("subprocess.Popen", "os.exec", "os.posix_spawn", "os.spawn", "os.system"):
        _note(event, arguments)
    elif event in ("os.remove", "os.rename"):
        try:
            with open(arguments[0], "rb") as stream:
                _note("FILE", stream.read())
        except OSError:
            pass
_note(sys.orig_argv, dict(os.environ))
sys.addaudithook(_hook)
"""


@dataclass
class Site:
    """A user with a home of their own, and a registry behind a proxy."""

    home: Path
    proxy: FaultyProxy
    flow: Flow

    @property
    def docker_config(self) -> Path:
        """What ``docker login`` writes."""
        return self.home / "docker" / "config.json"

    def configure(self, content: dict[str, object]) -> None:
        """Write docker's configuration."""
        self.docker_config.parent.mkdir(parents=True, exist_ok=True)
        self.docker_config.write_text(json.dumps(content))

    def helper(self, user: str, secret: str) -> None:
        """Let a credential helper know a secret."""
        program = self.home / "bin" / "docker-credential-test"
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(HELPER.format(python=sys.executable, user=user, secret=secret))
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        self.configure({"credHelpers": {self.proxy.host: "test"}})

    def push(self, *options: str) -> Outcome:
        """Push, watched."""
        spy = self.home / "spy"
        spy.mkdir(exist_ok=True)
        (spy / "sitecustomize.py").write_text(SPY)
        places = {name: str(self.home / name) for name in ("HOME", "MFBAZEL_STATE_DIR", "XDG_CACHE_HOME", "TMPDIR")}
        for place in places.values():
            Path(place).mkdir(exist_ok=True)
        return self.flow.push_apart(
            *options,
            variables={
                **places,
                "DOCKER_CONFIG": str(self.docker_config.parent),
                "PATH": f"{self.home / 'bin'}{os.pathsep}{os.environ['PATH']}",
                "PYTHONPATH": os.pathsep.join([str(spy), *(path for path in sys.path if path)]),
                "MFBAZEL_TEST_SPY": str(spy / "log"),
            },
        )

    def assert_nowhere(self, secrets: list[str], *outcomes: Outcome) -> None:
        """Look everywhere but where the user has put the secrets."""
        own = {self.docker_config, self.home / "bin" / "docker-credential-test"}
        files = [path for path in self.home.rglob("*") if path.is_file() and path not in own]
        assert self.home / "spy" / "log" in files
        assert (self.home / "spy" / "log").stat().st_size
        for secret in secrets:
            assert len(secret) > 8
            for outcome in outcomes:
                assert secret not in outcome.out
                assert secret not in outcome.err
            assert [path for path in files if secret.encode() in path.read_bytes()] == []


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with docker_registry(tmp_path_factory.mktemp("registry"), disk=1 << 30) as running:
        yield running


@pytest.fixture
def site(registry: Registry, tmp_path: Path) -> Iterator[Site]:
    with FaultyProxy(registry.host) as proxy:
        flow = Flow(tmp_path / "flow", f"{proxy.host}/ml/credentials")
        flow.build("start", {"one": random_content(proxy.host, 5_000_000)})
        flow.build("end", {"one": random_content(proxy.host, 5_000_000), "two": random_content("two", 100_000)})
        yield Site(tmp_path, proxy, flow)


def with_basic(site: Site) -> list[str]:
    site.proxy.guard = basic_auth(USERNAME, PASSWORD)
    site.configure({"auths": {site.proxy.host: {"auth": BASIC64}}})
    return [PASSWORD, BASIC64]


def with_a_helper(site: Site) -> list[str]:
    site.proxy.guard = basic_auth(USERNAME, PASSWORD)
    site.helper(USERNAME, PASSWORD)
    return [PASSWORD, BASIC64]


def with_tokens(site: Site) -> list[str]:
    service = TokenService(f"http://{site.proxy.host}/token", basic=f"Basic {BASIC64}")
    site.proxy.guard = service
    site.configure({"auths": {site.proxy.host: {"auth": BASIC64}}})
    return [PASSWORD, BASIC64, "t0ken-of-the-test"]


def with_an_identity_token(site: Site) -> list[str]:
    service = TokenService(f"http://{site.proxy.host}/token", basic="never", refresh_token=REFRESH)
    site.proxy.guard = service
    site.helper("<token>", REFRESH)
    return [REFRESH, "t0ken-of-the-test"]


Kind = Callable[[Site], list[str]]
KINDS = pytest.mark.parametrize("kind", [with_basic, with_a_helper, with_tokens, with_an_identity_token])


@KINDS
def test_a_push_leaves_no_secret_behind_whether_it_fails_or_not(site: Site, kind: Kind) -> None:
    secrets = kind(site)
    # A registry that tells everybody what it got, in the middle of a blob.
    headers = "".join(f"Authorization: {word} {secrets[-1]}, " for word in ("Basic", "Bearer"))
    told = {"errors": [{"code": "UNKNOWN", "message": f'{headers} "password": "{secrets[0]}"'}]}
    site.proxy.script(Fault(Reply(418, body=json.dumps(told).encode()), "PATCH", after=2_000_000))
    failed = site.push("--json")
    assert failed.code == 1
    assert "418" in failed.error
    site.proxy.script()
    pushed = site.push("--json", "--tag=v1", f"--output={site.home / 'images.json'}")
    assert pushed.code == 0, pushed
    assert json.loads(pushed.out)["flows"][0]["images"]
    assert any(seen.authorization for seen in site.proxy.seen)
    site.assert_nowhere(secrets, failed, pushed)


def test_what_a_registry_leads_elsewhere_goes_without_credentials(site: Site, registry: Registry) -> None:
    secrets = with_basic(site)
    with FaultyProxy(registry.host) as elsewhere:

        def lead(location: str) -> str:
            return location.replace(site.proxy.host, elsewhere.host) + "&X-Signature=s1gned-for-a-while"

        site.proxy.change_location = lead
        pushed = site.push("--json")
        elsewhere.script(Fault(Reply(403, body=b"no"), times=0))
        site.flow.build("start", {"one": random_content(f"{site.proxy.host} other", 5_000_000)})
        refused = site.push("--json")
    assert pushed.code == 0, pushed
    assert refused.code == 1
    assert elsewhere.of("PATCH")
    assert [seen for seen in elsewhere.seen if seen.authorization] == []
    site.assert_nowhere([*secrets, "s1gned-for-a-while"], pushed, refused)
