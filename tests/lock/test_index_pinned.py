"""Distributions that the policy takes from one index: against names that somebody else registers elsewhere."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from mfbazel.lock.errors import LockError
from mfbazel.lock.model import Index as PolicyIndex
from mfbazel.lock.model import Pin, Platform
from mfbazel.lock.resolver.piptools import PipTools
from mfbazel.lock.resolver.request import Request, ResolverFailure
from mfbazel.lock.resolver.uv import FoundWheel, Uv
from mfbazel.lock.wheels.sizes import Sizes
from mfbazel.lock.wheels.web import Web
from mfbazel.wheel.fetch import FetchError, Wheel, fetch
from tests.lock.index_server import Authority, Fault, Index, fake_keyring, forget_configuration, running
from tests.lock.wheelhouse import wheel

USER, PASSWORD = "builder", "pa:ss-w0rd%41/+#"
HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
PLATFORM = Platform.parse({"aarch64": "linux/arm64"}.get(os.uname().machine, "linux/amd64"))


@dataclass
class World:
    """A public index, the user's, and a private one, the policy's. ``said``: the lines for people."""

    root: Path
    public: Index
    private: Index
    monkeypatch: pytest.MonkeyPatch
    packages: tuple[str, ...] = ("corp-*",)
    said: list[str] = field(default_factory=list)

    def request(self, *wanted: str, **more: object) -> Request:
        index = PolicyIndex("corp", self.private.url(), self.packages, where="[[lock.index]] 'corp'")
        request = Request(HERE, PLATFORM, "2.28", wanted, indexes=(index,))
        return replace(request, **more)  # type: ignore[arg-type]

    def uv(self) -> Uv:
        return Uv(dict(os.environ), self.said.append)

    def lock(self, request: Request) -> dict[str, FoundWheel]:
        uv = self.uv()
        return uv.wheels(request, uv.pins(request))

    def publish(self, name: str, version: str, *requires: str) -> None:
        wheel(self.public.directory, name, version, requires)

    def keep(self, name: str, version: str, *requires: str) -> None:
        wheel(self.private.directory, name, version, requires)


def shown(found: dict[str, FoundWheel]) -> dict[str, tuple[str, str]]:
    return {name: (item.version, item.index) for name, item in sorted(found.items())}


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """Both indexes; the private one has newer versions of public names, the public one of private names."""
    forget_configuration(tmp_path / "home", monkeypatch)
    monkeypatch.setenv("MFBAZEL_WHEEL_CACHE", str(tmp_path / "wheels"))
    authority = Authority(tmp_path / "authority")
    monkeypatch.setenv("PIP_CERT", str(authority.file))
    monkeypatch.setenv("UV_INDEX_CORP_USERNAME", USER)
    monkeypatch.setenv("UV_INDEX_CORP_PASSWORD", PASSWORD)
    with (
        running(tmp_path / "public") as public,
        running(tmp_path / "private", tls=authority.server(), users={USER: PASSWORD}) as private,
    ):
        monkeypatch.setenv("PIP_INDEX_URL", public.url())
        world = World(tmp_path, public, private, monkeypatch)
        world.publish("alpha", "1.0", "corp-lib", "beta")
        world.publish("beta", "1.0")
        world.publish("corp_lib", "99.0", "malware")
        world.publish("corp_deep", "99.0")
        world.publish("malware", "1.0")
        world.keep("corp_lib", "1.0", "corp-deep")
        world.keep("corp_lib", "1.5", "corp-deep")
        world.keep("corp_deep", "0.1")
        world.keep("beta", "7.0")
        world.keep("alpha", "7.0")
        yield world


def test_a_higher_version_elsewhere_is_not_taken_however_deep_and_nothing_else_comes_from_the_index(
    world: World,
) -> None:
    found = world.lock(world.request("alpha"))
    assert shown(found) == {
        "alpha": ("1.0", ""),
        "beta": ("1.0", ""),
        "corp-deep": ("0.1", "corp"),
        "corp-lib": ("1.5", "corp"),
    }
    pins = world.uv().pins(world.request("alpha"))
    assert pins["corp-lib"] == Pin("corp-lib", "1.5", ("alpha",))
    assert pins["corp-deep"] == Pin("corp-deep", "0.1", ("corp-lib",))


def test_names_that_only_the_policys_index_has_are_found(world: World) -> None:
    for path in world.public.directory.glob("corp_*"):
        path.unlink()
    assert shown(world.lock(world.request("alpha")))["corp-deep"] == ("0.1", "corp")


def test_what_is_required_directly_is_never_asked_for_elsewhere(world: World) -> None:
    world.lock(world.request("corp-lib", preferences={"corp-lib": "1.5", "corp-deep": "0.1"}))
    assert not [asked for asked in world.public.asked if "corp" in asked.path]


def test_a_package_that_only_the_wrong_one_would_need_is_left_out(world: World) -> None:
    """The first look at the public index sees a name of the policy that the policy's own package does not need."""
    world.publish("corp_lib", "100.0", "corp-extra")
    world.publish("corp_extra", "1.0")
    world.keep("corp_extra", "1.0")
    assert "corp-extra" not in world.lock(world.request("alpha"))


def test_locked_versions_are_kept_and_upgraded_on_their_index(world: World) -> None:
    request = world.request("alpha", preferences={"corp-lib": "1.0", "corp-deep": "0.1", "alpha": "1.0"})
    assert shown(world.lock(request))["corp-lib"] == ("1.0", "corp")
    assert shown(world.lock(replace(request, upgrade_packages=("corp_lib",))))["corp-lib"] == ("1.5", "corp")
    gone = replace(request, preferences={"corp-lib": "99.0", "corp-gone": "1.0"})
    assert shown(world.lock(gone))["corp-lib"] == ("1.5", "corp")


def test_constraints_and_extras_hold_for_them(world: World) -> None:
    world.keep("corp_lib", "2.0", 'corp-more; extra == "more"')
    world.keep("corp_more", "1.0")
    world.publish("corp_more", "9.0")
    found = shown(world.lock(world.request("corp-lib[more]")))
    assert found == {"corp-lib": ("2.0", "corp"), "corp-more": ("1.0", "corp")}
    assert shown(world.lock(world.request("alpha", constraints=("corp-lib<1.5",))))["corp-lib"] == ("1.0", "corp")


def test_an_override_of_one_is_refused_with_what_to_do(world: World) -> None:
    with pytest.raises(
        LockError, match=r"`overrides`: 'corp-lib==9', .*\[\[lock.index\]\] 'corp'(.|\n)*Write a constraint"
    ):
        world.lock(world.request("alpha", overrides=("corp-lib==9",)))


@pytest.mark.parametrize("links", [False, True])
def test_what_the_user_has_configured_besides_changes_nothing(world: World, links: bool) -> None:
    """A directory of files, or uv's own configuration file with an index that counts for everything."""
    wheel(world.root / "links", "corp_lib", "50.0")
    if links:
        world.monkeypatch.setenv("PIP_FIND_LINKS", str(world.root / "links"))
    else:
        path = world.root / "uv.toml"
        path.write_text(f'[[index]]\nname = "corp-public"\nurl = "{world.public.url()}"\ndefault = true\n', "utf-8")
        world.monkeypatch.setenv("UV_CONFIG_FILE", str(path))
        world.monkeypatch.delenv("PIP_INDEX_URL")
    assert shown(world.lock(world.request("alpha")))["corp-lib"] == ("1.5", "corp")


def test_an_index_of_the_user_with_the_same_name_does_not_take_its_place(world: World) -> None:
    path = world.root / "uv.toml"
    path.write_text(f'[[index]]\nname = "corp"\nurl = "{world.public.url()}"\n', "utf-8")
    world.monkeypatch.setenv("UV_CONFIG_FILE", str(path))
    assert shown(world.lock(world.request("alpha")))["corp-lib"] == ("1.5", "corp")
    world.monkeypatch.delenv("UV_CONFIG_FILE")
    world.monkeypatch.setenv("UV_INDEX", f"corp={world.public.url()}")
    with pytest.raises(
        LockError, match=r"corp-lib comes from http://127\.0\.0\.1:\d+/simple, not from the index 'corp'"
    ):
        world.lock(world.request("alpha"))


def test_another_package_from_the_policys_index_is_refused(world: World) -> None:
    """The user's configuration names the same index, for everything."""
    world.monkeypatch.setenv("PIP_EXTRA_INDEX_URL", world.private.url(USER, PASSWORD))
    with pytest.raises(LockError) as error:
        world.lock(world.request("alpha"))
    assert str(error.value).startswith(
        "alpha comes from the index 'corp', which mfbazel.toml ([[lock.index]]) has for "
    )
    assert PASSWORD not in str(error.value)


def test_a_package_that_its_index_does_not_have_is_not_taken_from_elsewhere(world: World) -> None:
    world.publish("corp_new", "1.0")
    with pytest.raises(ResolverFailure, match="corp-new was not found in the package registry"):
        world.lock(world.request("corp-new"))
    world.publish("alpha", "2.0", "corp-new")
    assert shown(world.lock(world.request("alpha")))["alpha"] == ("1.0", "")


@pytest.mark.parametrize("refusal", [401, 403])
def test_an_index_that_refuses_the_credentials_is_an_error(world: World, refusal: int) -> None:
    world.private.refusal = refusal
    world.monkeypatch.setenv("UV_INDEX_CORP_PASSWORD", "wrong-password")
    with pytest.raises(LockError) as error:
        world.lock(world.request("alpha"))
    assert f"refuses the credentials, or wants some: {world.private.place} (HTTP {refusal})" in str(error.value)
    assert "UV_INDEX_<NAME>_PASSWORD" in str(error.value)
    assert "wrong-password" not in str(error.value)


def test_an_index_that_cannot_be_reached_is_an_error(world: World) -> None:
    world.private.faults.append(Fault("/simple/", "drop"))
    with pytest.raises(ResolverFailure) as error:
        world.lock(world.request("alpha"))
    assert error.value.unreachable


def test_credentials_come_from_netrc_or_keyring_as_well(world: World) -> None:
    world.monkeypatch.delenv("UV_INDEX_CORP_PASSWORD")
    log = fake_keyring(world.root / "bin", world.private.place, USER, PASSWORD)
    world.monkeypatch.setenv("PATH", f"{log.parent}{os.pathsep}{os.environ['PATH']}")
    world.monkeypatch.setenv("UV_KEYRING_PROVIDER", "subprocess")
    found = world.lock(world.request("alpha"))
    assert shown(found)["corp-lib"] == ("1.5", "corp")
    download(world, found["corp-lib"])
    assert PASSWORD not in log.read_text(encoding="utf-8")
    world.monkeypatch.delenv("UV_KEYRING_PROVIDER")
    world.monkeypatch.delenv("UV_INDEX_CORP_USERNAME")
    netrc = world.root / "netrc"
    netrc.write_text(f'machine 127.0.0.1 login {USER} password "{PASSWORD}"\n', encoding="utf-8")
    netrc.chmod(0o600)
    world.monkeypatch.setenv("NETRC", str(netrc))
    assert shown(world.lock(world.request("alpha", preferences={"corp-lib": "1.0"})))["corp-lib"] == ("1.0", "corp")
    download(world, found["corp-deep"])


def download(world: World, found: FoundWheel) -> None:
    item = Wheel(found.name, found.version, found.file, found.sha256)
    cache = world.root / f"cache-{len(world.private.asked)}"
    output = fetch(item, world.root / "out" / found.file, cache=cache, index=found.origin)
    assert hashlib.sha256(output.read_bytes()).hexdigest() == found.sha256


def test_the_build_asks_the_policys_index_and_no_other(world: World) -> None:
    found = world.lock(world.request("alpha"))["corp-lib"]
    assert found.origin == ("corp", world.private.url())
    before = len(world.public.asked)
    config = world.root / "pip.conf"
    config.write_text(
        f"[global]\nno-index = 1\nextra-index-url = {world.public.url()}\nfind-links = /nowhere\n", "utf-8"
    )
    world.monkeypatch.setenv("PIP_CONFIG_FILE", str(config))
    download(world, found)
    assert len(world.public.asked) == before
    elsewhere = replace(found, index="", index_url="")
    world.monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    with pytest.raises(FetchError, match=r"corp-lib 1\.5: no configured index has corp_lib-1\.5-py3-none-any\.whl"):
        download(world, elsewhere)


def test_sizes_are_asked_with_the_indexs_credentials(world: World) -> None:
    found = world.lock(world.request("alpha"))["corp-lib"]
    sizes = Sizes(download=lambda _wheel: pytest.fail("downloaded"), web=Web(dict(os.environ)))
    path = world.private.directory / found.file
    assert sizes.complete([found])[found.sha256] == path.stat().st_size


def test_variables_of_the_url_are_replaced_and_shown_by_name(world: World) -> None:
    url = world.private.url().replace("/simple/", "/${CORP_CHANNEL}/")
    index = PolicyIndex("corp", url, ("corp-*",), where="[[lock.index]] 'corp'")
    request = replace(world.request("alpha"), indexes=(index,))
    with pytest.raises(LockError, match=r"\[\[lock.index\]\] 'corp': `url`: the variable CORP_CHANNEL of https://"):
        world.lock(request)
    assert shown(world.lock(replace(request, wanted=("beta",)))) == {"beta": ("1.0", "")}
    world.monkeypatch.setenv("CORP_CHANNEL", "simple")
    found = world.lock(request)["corp-lib"]
    assert found.index_url == url
    download(world, found)
    world.monkeypatch.delenv("CORP_CHANNEL")
    with pytest.raises(FetchError, match="the variable CORP_CHANNEL"):
        download(world, found)


@pytest.mark.skipif(sys.platform != "linux", reason="pip-tools resolves for the machine it runs on")
def test_pip_tools_says_to_use_uv_when_an_index_concerns_the_environment(world: World) -> None:
    with pytest.raises(LockError, match=r"corp-lib comes from one index alone .*'corp'.*use `resolver = \"uv\"`"):
        PipTools().pins(world.request("corp-lib"))
    world.publish("delta", "1.0", "corp-lib")
    with pytest.raises(LockError, match="corp-lib comes from one index alone"):
        PipTools().pins(world.request("delta"))
    assert PipTools().pins(world.request("beta"))["beta"].version == "1.0"
