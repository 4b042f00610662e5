"""Whatever the user's configuration of pip or uv says of a private index works for both resolvers and for downloads,
and no password is left anywhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.lock.private_site import (
    CONFIGURATIONS,
    FLOW,
    HERE,
    MACHINE,
    PASSWORD,
    USER,
    Site,
    as_extra_index,
    as_find_links,
    in_the_url,
    private_site,
    with_a_named_index_of_uv,
    with_keyring,
    with_netrc,
)
from tests.lock.wheelhouse import wheel


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """See :func:`private_site`."""
    with private_site(tmp_path, monkeypatch) as made:
        yield made


@pytest.mark.parametrize("configure", CONFIGURATIONS)
def test_what_the_user_has_configured_locks_and_downloads(site: Site, configure: Callable[[Site], None]) -> None:
    configure(site)
    site.lock()
    assert site.versions() == {"alpha": "1.0", "beta": "1.0"}
    before = len(site.index.paths("alpha-1.0-py3-none-any.whl"))
    site.fetch()
    assert len(site.index.paths("alpha-1.0-py3-none-any.whl")) > before
    assert {asked.user for asked in site.index.asked if asked.status == 200} == {USER}
    site.check()


@pytest.mark.skipif(sys.platform != "linux", reason="pip-tools resolves for the machine it runs on")
@pytest.mark.parametrize(
    "configure", [as_extra_index, as_find_links, with_netrc, with_keyring, with_a_named_index_of_uv]
)
def test_what_the_user_has_configured_counts_for_pip_tools(site: Site, configure: Callable[[Site], None]) -> None:
    configure(site)
    site.lock(resolver="pip-tools")
    assert site.versions() == {"alpha": "1.0", "beta": "1.0"}
    assert {asked.user for asked in site.index.asked if asked.status == 200} == {USER}
    site.check()


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
