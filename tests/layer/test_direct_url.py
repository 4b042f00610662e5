"""direct_url.json: for wheels that were built of a commit, and for no other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mfbazel.layer import LayerError
from tests.layer.wheels import SITE, layer, make_wheel, record_line, unpacked

FILE = f"{SITE}/demo-1.0.dist-info/direct_url.json"
RECORD = f"{SITE}/demo-1.0.dist-info/RECORD"
ORIGIN = {
    "url": "https://git.example.com/demo.git?a=b",
    "vcs_info": {"vcs": "git", "requested_revision": "v1.0", "commit_id": "c0ffee"},
    "subdirectory": "python",
}


def option(wheel: Path, origin: object) -> tuple[str, str]:
    return ("--direct-url", f"{wheel.name}={json.dumps(origin)}")


def test_origin_is_installed_and_recorded(tmp_path: Path) -> None:
    wheel, other = make_wheel(tmp_path), make_wheel(tmp_path, "other")
    files = unpacked(layer(tmp_path, wheel, other, options=option(wheel, ORIGIN)))
    assert json.loads(files[FILE]) == ORIGIN
    assert files[FILE] == json.dumps(ORIGIN, sort_keys=True).encode()
    assert record_line("demo-1.0.dist-info/direct_url.json", files[FILE]) in files[RECORD].decode()
    assert not [path for path in files if "other" in path and "direct_url" in path]


def test_origin_that_a_wheel_claims_itself_is_left_out(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, files={"demo-1.0.dist-info/direct_url.json": b'{"url": "file:///home/me/demo"}'})
    files = unpacked(layer(tmp_path, wheel))
    assert FILE not in files
    assert "direct_url" not in files[RECORD].decode()


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        ({**ORIGIN, "url": "file:///home/me/demo"}, "file:///home/me/demo is a place of one machine"),
        ({**ORIGIN, "url": "https://me:secret@git.example.com/demo"}, "its url has a password"),
        ({**ORIGIN, "url": "https://ghp_secret@git.example.com/demo"}, "its url has a password or token"),
        ({**ORIGIN, "url": "https://["}, "its url is none"),
        ({"url": "https://git.example.com/demo"}, "vcs_info with vcs and commit_id is expected"),
        ([], "an object with a url is expected"),
    ],
)
def test_origin_that_must_not_be_installed_is_refused(tmp_path: Path, origin: object, expected: str) -> None:
    wheel = make_wheel(tmp_path)
    with pytest.raises(LayerError, match=expected) as caught:
        layer(tmp_path, wheel, options=option(wheel, origin))
    assert wheel.name in str(caught.value)
    assert "secret" not in str(caught.value)


def test_the_user_of_ssh_is_no_secret(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path)
    origin = {**ORIGIN, "url": "ssh://git@git.example.com/demo"}
    assert json.loads(unpacked(layer(tmp_path, wheel, options=option(wheel, origin)))[FILE]) == origin


def test_origin_that_nests_without_end_is_refused(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path)
    with pytest.raises(LayerError, match="is not JSON"):
        layer(tmp_path, wheel, options=("--direct-url", f"{wheel.name}={'[' * 200_000}"))


def test_origin_of_no_wheel_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LayerError, match=r"--direct-url x\.whl={}: FILE\.whl=JSON is expected"):
        layer(tmp_path, make_wheel(tmp_path), options=("--direct-url", "x.whl={}"))
