"""A push whose registry is reached wrongly: names, certificates, proxies, tokens and clocks."""

from __future__ import annotations

import base64
import datetime
import email.utils
import json
import os
import re
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from bench.push_rig import free_port, random_content
from mfbazel.registry import transport, upload
from tests.push.fault_rig import Flow, assert_whole, repository_name, wrong_record, wrong_state
from tests.push.faulty_proxy import Fault, FaultyProxy, Reply, TokenService, basic_auth
from tests.push.forward_proxy import ForwardProxy, forward_proxy
from tests.push.registries import PASSWORD, USERNAME, Registry, docker_registry

NAME = "registry.test"
BASIC = "Basic " + base64.b64encode(f"{USERNAME}:{PASSWORD}".encode()).decode()


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing of the machine count, and try again at once."""
    for name in list(os.environ):
        if name.upper().endswith(("_PROXY", "_CA_BUNDLE")) or name.startswith(("SSL_CERT", "DOCKER_", "REGISTRY_")):
            monkeypatch.delenv(name)
    for name in ("MFBAZEL_STATE_DIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR", "DOCKER_CONFIG", "HOME"):
        monkeypatch.setenv(name, str(tmp_path / "user" / name))
    monkeypatch.setattr(upload, "_FIRST_PAUSE", 0.01)
    monkeypatch.setattr(transport, "_FIRST_PAUSE", 0.01)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with docker_registry(tmp_path_factory.mktemp("registry"), disk=1 << 30) as running:
        yield running


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@dataclass
class Site:
    """Makes proxies before the registry, and flows to push through them."""

    registry: Registry
    scratch: Path
    name: str
    stack: ExitStack
    ca: trustme.CA

    def proxy(self, tls: bool = False, ends: float = 1, begins: float = -1, **options: object) -> FaultyProxy:
        """Run a proxy; with ``tls`` its certificate is good from ``begins`` to ``ends``, in days from now."""
        context = None
        if tls:
            now = datetime.datetime.now(datetime.UTC)
            dates = [now + datetime.timedelta(days=days) for days in (begins, ends)]
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            issued = self.ca.issue_cert(NAME, "127.0.0.1", not_before=dates[0], not_after=dates[1])
            issued.configure_cert(context)
        return self.stack.enter_context(FaultyProxy(self.registry.host, tls=context, **options))  # type: ignore[arg-type]

    def company(self, proxy: FaultyProxy, port: int = 443) -> ForwardProxy:
        """Run an HTTP proxy that knows ``proxy`` as NAME."""
        return self.stack.enter_context(forward_proxy({f"{NAME}:{port}": proxy.host, f"{NAME}:80": proxy.host}))

    def flow(self, host: str) -> Flow:
        """Return a flow of two images, one with a layer that is sent in two requests or more."""
        made = Flow(self.scratch / "flow", f"{host}/ml/{self.name}")
        made.build("start", {"one": random_content(self.name, 5_000_000)})
        made.build("end", {"one": random_content(self.name, 5_000_000), "two": random_content("two", 10_000)})
        return made

    @property
    def authority(self) -> str:
        """The file with the certificate of the authority."""
        path = self.scratch / "ca.pem"
        self.ca.cert_pem.write_to_path(path)
        return str(path)


@pytest.fixture
def site(registry: Registry, tmp_path: Path, authority: trustme.CA, request: pytest.FixtureRequest) -> Iterator[Site]:
    name = repository_name(request.node.name)
    with ExitStack() as stack:
        yield Site(registry, tmp_path, name, stack, authority)


def log_in(host: str, username: str = USERNAME, password: str = PASSWORD) -> None:
    """Write what ``docker login`` writes."""
    file = Path(os.environ["DOCKER_CONFIG"], "config.json")
    file.parent.mkdir(parents=True, exist_ok=True)
    auth = base64.b64encode(f"{username}:{password}".encode()).decode()
    file.write_text(json.dumps({"auths": {host: {"auth": auth}}}))


def completes(flow: Flow, registry: Registry, *options: str) -> None:
    """Push, and check that all of it is there."""
    outcome = flow.push(*options)
    assert outcome.code == 0, outcome
    assert wrong_record(flow, None) == []
    assert wrong_state(flow, registry.host, None) == []


def refused(flow: Flow, *says: str) -> str:
    """Push; the error names registry and repository, and says what the regular expressions find; return it."""
    outcome = flow.push()
    assert outcome.code == 1
    for wanted in (re.escape(flow.repository), *says):
        assert re.search(wanted, outcome.error), f"{wanted!r} is not in {outcome.error!r}"
    assert flow.recorded() is None
    return outcome.error


# Names.


def test_a_name_that_nobody_knows_is_named(site: Site) -> None:
    flow = site.flow("registry.invalid")
    refused(flow, "the registry registry.invalid cannot be reached", "Check the name")
    flow.repository = f"{site.registry.host}/ml/{site.name}"
    completes(flow, site.registry)


def test_a_name_that_is_not_found_for_a_moment_is_asked_for_again(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    flow = site.flow(f"localhost:{site.proxy().port}")
    known = socket.getaddrinfo
    failures = [socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution") for _ in range(2)]

    def look_up(*arguments: object, **options: object) -> object:
        if failures:
            raise failures.pop()
        return known(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    first = flow.push()
    if first.code:
        assert re.search("Temporary failure in name resolution.*Check the name", first.error)
        assert flow.recorded() is None
    completes(flow, site.registry)
    assert not failures


# Certificates.


@pytest.mark.parametrize("host", [NAME, "127.0.0.1"])
def test_an_unknown_authority_is_told_and_nothing_is_sent_before(
    site: Site, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    proxy = site.proxy(tls=True)
    for name, value in site.company(proxy).variables.items():
        monkeypatch.setenv(name, value)
    flow = site.flow(NAME if host == NAME else proxy.host)
    refused(flow, "no TLS connection to the registry", "(?i)certificate", "SSL_CERT_FILE", "--insecure")
    assert proxy.seen == []
    monkeypatch.setenv("SSL_CERT_FILE", site.authority)
    completes(flow, site.registry)


@pytest.mark.parametrize(("begins", "ends", "says"), [(1, 2, "not yet valid"), (-2, -1, "has expired")])
def test_a_certificate_of_another_time_is_told_with_the_clock(
    site: Site, monkeypatch: pytest.MonkeyPatch, begins: float, ends: float, says: str
) -> None:
    proxy = site.proxy(tls=True, begins=begins, ends=ends)
    monkeypatch.setenv("SSL_CERT_FILE", site.authority)
    flow = site.flow(proxy.host)
    refused(flow, "no TLS connection to the registry", says, "(?i)clock")
    assert proxy.seen == []
    flow.repository = f"{site.proxy(tls=True).host}/ml/{site.name}"
    completes(flow, site.registry)


# Proxies.


def test_a_push_goes_through_the_proxy_that_the_environment_names(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = site.proxy(tls=True)
    company = site.company(proxy)
    for name, value in {**company.variables, "SSL_CERT_FILE": site.authority}.items():
        monkeypatch.setenv(name, value)
    completes(site.flow(NAME), site.registry)
    assert set(company.asked) == {("CONNECT", f"{NAME}:443")}
    assert proxy.of("PUT", "/manifests/")


@pytest.mark.parametrize("refusal", ["403 Forbidden", "407 Who are you", "502 Bad Gateway", "down"])
def test_a_proxy_that_lets_nobody_through_is_told(site: Site, monkeypatch: pytest.MonkeyPatch, refusal: str) -> None:
    company = site.company(site.proxy(tls=True))
    for name, value in {**company.variables, "SSL_CERT_FILE": site.authority}.items():
        monkeypatch.setenv(name, value)
    company.refusal = refusal
    if refusal == "down":
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{free_port()}")
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{free_port()}")
    flow = site.flow(NAME)
    says = "(?i)refused" if refusal == "down" else refusal[:3]
    refused(flow, f"the registry {NAME} cannot be reached", says, "HTTPS_PROXY")
    company.refusal = ""
    for name, value in company.variables.items():
        monkeypatch.setenv(name, value)
    completes(flow, site.registry)


def test_plain_http_to_another_machine_is_refused_unless_insecure_is_said(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = site.proxy(guard=basic_auth(USERNAME, PASSWORD))
    company = site.company(proxy)
    for name, value in company.variables.items():
        monkeypatch.setenv(name, value)
    log_in(NAME)
    flow = site.flow(NAME)
    refused(flow, f"the registry {NAME} speaks plain HTTP", "--insecure")
    assert proxy.seen == []
    assert {method for method, _ in company.asked} == {"CONNECT"}
    completes(flow, site.registry, "--insecure")


# Tokens.


@pytest.mark.parametrize("requests", range(2, 20, 3))
def test_a_token_that_expires_in_the_middle_is_renewed(site: Site, requests: int) -> None:
    service = TokenService(basic=BASIC, ends={requests})
    proxy = site.proxy(guard=service)
    service.realm = f"http://{proxy.host}/token"
    log_in(proxy.host)
    flow = site.flow(proxy.host)
    first = flow.push()
    assert first.code == 0, (first.error, proxy.seen, service.given)
    assert len(service.given) > 1
    assert_whole(flow, proxy, first, None)


@pytest.mark.parametrize(
    ("issued_at", "expires_in"),
    [("2001-01-01T00:00:00Z", 1), ("2199-01-01T00:00:00Z", 300), ("yesterday", 10**9), ("2199-01-01T00:00:00Z", 0)],
)
def test_the_clock_of_a_token_service_does_not_matter(site: Site, issued_at: str, expires_in: int) -> None:
    service = TokenService(basic=BASIC, issued_at=issued_at, expires_in=expires_in)
    proxy = site.proxy(guard=service)
    service.realm = f"http://{proxy.host}/token"
    log_in(proxy.host)
    completes(site.flow(proxy.host), site.registry)


def test_a_token_service_that_fails_for_a_moment_is_asked_again(site: Site) -> None:
    service = TokenService(basic=BASIC)
    failures = [Reply(503), Reply(429, {"Retry-After": "0"}), Reply(200, {}, b'{"token": "half')]
    proxy = site.proxy(
        guard=lambda asked: failures.pop(0) if failures and asked.path.startswith("/token") else service(asked)
    )
    service.realm = f"http://{proxy.host}/token"
    log_in(proxy.host)
    flow = site.flow(proxy.host)
    first = flow.push()
    if first.code:
        assert re.search("its token service 127.0.0.1/token gives no token", first.error)
    completes(flow, site.registry)


@pytest.mark.parametrize("kind", ["basic", "token"])
def test_wrong_credentials_are_told_without_them(site: Site, kind: str) -> None:
    service = TokenService(basic=BASIC)
    proxy = site.proxy(guard=basic_auth(USERNAME, PASSWORD) if kind == "basic" else service)
    service.realm = f"http://{proxy.host}/token"
    log_in(proxy.host, password="wr0ng-password")
    flow = site.flow(proxy.host)
    error = refused(flow, "wants credentials", "401", "docker login")
    assert "wr0ng-password" not in error
    assert base64.b64encode(f"{USERNAME}:wr0ng-password".encode()).decode() not in error
    log_in(proxy.host)
    completes(flow, site.registry)


# Clocks.


@pytest.mark.parametrize("skew", [-3600, 0, 3600])
def test_a_time_to_try_again_is_taken_by_the_clock_that_gave_it(site: Site, skew: int) -> None:
    proxy = site.proxy()
    now = time.time() + skew
    headers = {
        "Date": email.utils.formatdate(now, usegmt=True),
        "Retry-After": email.utils.formatdate(now + 2, usegmt=True),
    }
    flow = site.flow(proxy.host)
    proxy.script(Fault(Reply(429, headers), "POST", "/blobs/uploads/$"))
    began = time.monotonic()
    first = flow.push()
    assert 1 <= time.monotonic() - began < 20
    assert_whole(flow, proxy, first, None, at_first=True)
