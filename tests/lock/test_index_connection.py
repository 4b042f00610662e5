"""How a private index is reached, certificates and proxies; and that one which refuses is an error."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lock.index_server import Authority, Fault, running, running_proxy
from tests.lock.private_site import (
    PASSWORD,
    QUOTED,
    RESOLVERS,
    USER,
    Site,
    in_the_url,
    private_site,
)
from tests.lock.wheelhouse import wheel


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """See :func:`private_site`."""
    with private_site(tmp_path, monkeypatch) as made:
        yield made


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
    site.monkeypatch.delenv("PIP_CERT")
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
