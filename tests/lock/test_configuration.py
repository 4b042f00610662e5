"""pip's configuration, as uv gets it."""

from __future__ import annotations

import os
import ssl
import sys
from pathlib import Path

import pytest

from mfbazel.lock.resolver.indexes import uv_arguments, uv_environment
from mfbazel.wheel.pip_environment import parse_config_list, pip_environment


def translated(tmp_path: Path, settings: dict[str, str], **own: str) -> dict[str, str]:
    environment = {"XDG_CONFIG_HOME": str(tmp_path), **own}
    return {name: value for name, value in uv_environment(settings, environment).items() if name not in environment}


def test_the_environment_wins_over_files_and_download_over_global() -> None:
    listing = (
        "global.index-url='https://a.example.com/simple'\nglobal.extra_index_url='b'\ninstall.no-index='1'\n"
        "download.extra-index-url='c\\nd'\n:env:.index-url='https://user:pa=ss@e.example.com/simple'\nnonsense\n"
    )
    assert parse_config_list(listing) == {
        "index-url": "https://user:pa=ss@e.example.com/simple",
        "extra-index-url": "c\nd",
    }


def test_every_setting_of_pip_has_its_counterpart(tmp_path: Path) -> None:
    settings = {
        "index-url": "https://a.example.com/simple",
        "extra-index-url": "https://b.example.com/simple\nfile:///c",
        "find-links": "/wheels https://d.example.com",
        "trusted-host": "a b:80",
        "cert": "/ca.pem",
        "client-cert": "/me.pem",
        "proxy": "http://proxy.example.com:3128",
        "timeout": "60",
        "pre": "true",
    }
    assert translated(tmp_path, settings) == {
        "UV_DEFAULT_INDEX": "https://a.example.com/simple",
        "UV_INDEX": "https://b.example.com/simple file:///c",
        "UV_FIND_LINKS": "/wheels,https://d.example.com",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_INSECURE_HOST": "a b:80",
        "SSL_CERT_FILE": "/ca.pem",
        "SSL_CLIENT_CERT": "/me.pem",
        "HTTPS_PROXY": "http://proxy.example.com:3128",
        "HTTP_PROXY": "http://proxy.example.com:3128",
        "UV_HTTP_TIMEOUT": "60",
        "UV_PRERELEASE": "allow",
        "UV_PYTHON_DOWNLOADS": "never",
    }


def test_uvs_own_variables_are_left_alone(tmp_path: Path) -> None:
    settings = {
        "index-url": "https://pip.example.com/simple",
        "extra-index-url": "https://more.example.com/simple",
        "cert": "/pip.pem",
    }
    own = {
        "UV_INDEX_URL": "https://uv.example.com/simple",
        "UV_INDEX_STRATEGY": "first-index",
        "SSL_CERT_FILE": "/uv.pem",
    }
    added = translated(tmp_path, settings, **own)
    assert added == {"UV_INDEX": "https://more.example.com/simple", "UV_PYTHON_DOWNLOADS": "never"}


def test_indexes_in_uv_toml_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "uv").mkdir()
    (tmp_path / "uv" / "uv.toml").write_text(
        '[[index]]\nurl = "https://uv.example.com/simple"\ndefault = true\n', encoding="utf-8"
    )
    added = translated(tmp_path, {"index-url": "https://pip.example.com/simple", "find-links": "/wheels"})
    assert "UV_DEFAULT_INDEX" not in added
    assert added["UV_FIND_LINKS"] == "/wheels"


def test_no_index_becomes_an_option_unless_uv_decides(tmp_path: Path) -> None:
    environment = {"XDG_CONFIG_HOME": str(tmp_path)}
    assert uv_arguments({"no-index": "1"}, environment) == ["--no-index"]
    assert uv_arguments({"no-index": "false"}, environment) == []
    (tmp_path / "uv").mkdir()
    (tmp_path / "uv" / "uv.toml").write_text("no-index = false\n", encoding="utf-8")
    assert uv_arguments({"no-index": "1"}, environment) == []


def for_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **variables: str) -> dict[str, str]:
    """Return pip's variables for a download, when the environment holds ``variables`` alone."""
    for name in list(os.environ):
        if name.startswith(("PIP_", "UV_", "SSL_")) or name.endswith("_CA_BUNDLE"):
            monkeypatch.delenv(name)
    own = {"PIP_CONFIG_FILE": os.devnull, "XDG_CONFIG_HOME": str(tmp_path), "HOME": str(tmp_path), **variables}
    for name, value in own.items():
        monkeypatch.setenv(name, value)
    directory = tmp_path / "temporary"
    directory.mkdir(exist_ok=True)
    found = pip_environment(directory)
    return {name: value for name, value in found.items() if name.startswith("PIP_") and own.get(name) != value}


def test_what_only_uv_is_told_of_is_told_to_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "uv").mkdir()
    (tmp_path / "uv" / "uv.toml").write_text(
        'find-links = ["wheels"]\n[pip]\nextra-index-url = ["https://file.example.com/simple"]\n'
        '[[index]]\nname = "flat"\nurl = "https://flat.example.com/"\nformat = "flat"\n',
        encoding="utf-8",
    )
    found = for_pip(
        tmp_path,
        monkeypatch,
        UV_DEFAULT_INDEX="https://main.example.com/simple",
        UV_INDEX="my-corp=https://corp.example.com/simple https://user:x@other.example.com/simple",
        UV_INDEX_MY_CORP_USERNAME="me@corp",
        UV_INDEX_MY_CORP_PASSWORD="p/w:@",
        UV_KEYRING_PROVIDER="subprocess",
        UV_INSECURE_HOST="a b:80",
        SSL_CLIENT_CERT="/me.pem",
    )
    extra = "https://me%40corp:p%2Fw%3A%40@corp.example.com/simple https://user:x@other.example.com/simple"
    assert found == {
        "PIP_CONSTRAINT": "/dev/null",
        "PIP_INDEX_URL": "https://main.example.com/simple",
        "PIP_EXTRA_INDEX_URL": f"{extra} https://file.example.com/simple",
        "PIP_FIND_LINKS": f"https://flat.example.com/ {tmp_path}/uv/wheels",
        "PIP_KEYRING_PROVIDER": "subprocess",
        "PIP_TRUSTED_HOST": "a b:80",
        "PIP_CLIENT_CERT": "/me.pem",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_NO_COLOR": "1",
        "PIP_REQUIRE_VIRTUALENV": "0",
    }


def test_pips_own_settings_stay_and_what_uv_is_told_is_added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = for_pip(
        tmp_path,
        monkeypatch,
        PIP_INDEX_URL="https://pip.example.com/simple",
        PIP_EXTRA_INDEX_URL="https://more.example.com/simple",
        UV_DEFAULT_INDEX="https://uv.example.com/simple",
    )
    assert "PIP_INDEX_URL" not in found
    assert found["PIP_EXTRA_INDEX_URL"] == "https://more.example.com/simple https://uv.example.com/simple"


def test_without_configuration_nothing_is_told_to_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = for_pip(tmp_path, monkeypatch, PIP_CONSTRAINT="/c.txt", PIP_REQUIRE_VIRTUALENV="1")
    own = {"PIP_CONSTRAINT", "PIP_DISABLE_PIP_VERSION_CHECK", "PIP_NO_COLOR", "PIP_REQUIRE_VIRTUALENV"}
    assert found.keys() == own
    assert found["PIP_CONSTRAINT"] == "/dev/null"


def test_every_file_of_authorities_is_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("pip", "requests", "system"):
        (tmp_path / name).write_text(f"the authorities of {name}\n", encoding="utf-8")
    found = for_pip(
        tmp_path,
        monkeypatch,
        PIP_CERT=str(tmp_path / "pip"),
        REQUESTS_CA_BUNDLE=str(tmp_path / "requests"),
        SSL_CERT_FILE=str(tmp_path / "system"),
        CURL_CA_BUNDLE=str(tmp_path / "missing"),
    )
    assert Path(found["PIP_CERT"]).read_text(encoding="utf-8").split("\n\n") == [
        "the authorities of pip",
        "the authorities of requests",
        "the authorities of system\n",
    ]


def test_the_systems_authorities_are_trusted_where_none_are_named(tmp_path: Path) -> None:
    paths = ssl.get_default_verify_paths()
    there = bool(paths.cafile) or any(Path(paths.capath or "/nonexistent").glob("*.0")) or sys.platform == "darwin"
    assert (translated(tmp_path, {}).get("UV_SYSTEM_CERTS") == "true") == there
    assert "UV_SYSTEM_CERTS" not in translated(tmp_path, {"cert": "/ca.pem"})
    assert "UV_SYSTEM_CERTS" not in translated(tmp_path, {}, SSL_CERT_DIR="/certs")
