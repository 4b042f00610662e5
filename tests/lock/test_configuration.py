"""pip's configuration, as uv gets it."""

from __future__ import annotations

from pathlib import Path

from mfbazel.lock.indexes import uv_arguments, uv_environment
from mfbazel.wheel.pip_environment import parse_config_list


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
