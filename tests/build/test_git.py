"""Commits of git repositories as source archives, and what may be written in a requirement."""

from __future__ import annotations

import base64
import functools
import tarfile
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from mfbazel.build.archive import unpack
from mfbazel.build.errors import BuildError
from mfbazel.build.git import GitSource, fetch_commit, parse_git_url, resolve
from tests.build.projects import commit, git, repository


def _source(directory: Path, revision: str = "") -> GitSource:
    return GitSource(directory.as_uri(), revision)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("git+https://example.com/a/b", GitSource("https://example.com/a/b", "")),
        ("git+https://example.com/a/b.git@v1.0", GitSource("https://example.com/a/b.git", "v1.0")),
        ("git+ssh://git@example.com/a/b@main", GitSource("ssh://git@example.com/a/b", "main")),
        ("git+file:///srv/b@release/1.0", GitSource("file:///srv/b", "release/1.0")),
        (
            "git+https://example.com/b@v1#subdirectory=python/lib&egg=x",
            GitSource("https://example.com/b", "v1", "python/lib"),
        ),
    ],
)
def test_requirements_name_repository_revision_and_subdirectory(text: str, expected: GitSource) -> None:
    assert parse_git_url(text) == expected


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("https://example.com/x-1.0.tar.gz", "it is none of git+https://"),
        ("git+git://example.com/b", "it is none of git+https://"),
        ("git+ext::sh", "it is none of git+https://"),
        ("git+https://token@example.com/b", "credentials"),
        ("git+https://user:password@example.com/b", "credentials"),
        ("git+ssh://git:password@example.com/b", "credentials"),
        ("git+https://example.com/b@--upload-pack=x", "is not the name of a commit"),
        ("git+https://example.com/b@a%20b", "is not the name of a commit"),
        ("git+https://example.com/b#subdirectory=../..", "leads out of the repository"),
    ],
)
def test_other_urls_and_credentials_are_refused(text: str, why: str) -> None:
    with pytest.raises(BuildError) as caught:
        parse_git_url(text)
    assert why in str(caught.value)
    assert "password" not in str(caught.value)


def test_branches_and_tags_become_commits(tmp_path: Path) -> None:
    first = repository(tmp_path / "r", {"a": "1"})
    git(tmp_path / "r", "tag", "v1")
    git(tmp_path / "r", "tag", "--annotate", "--message=x", "v1-annotated")
    second = commit(tmp_path / "r", {"a": "2"})
    assert resolve(_source(tmp_path / "r", "v1")) == first
    assert resolve(_source(tmp_path / "r", "v1-annotated")) == first
    assert resolve(_source(tmp_path / "r", "refs/tags/v1-annotated")) == first
    assert resolve(_source(tmp_path / "r", "main")) == second
    assert resolve(_source(tmp_path / "r")) == second
    assert resolve(_source(tmp_path / "nowhere", first)) == first  # nobody is asked


def test_a_name_of_both_a_branch_and_a_tag_is_refused(tmp_path: Path) -> None:
    repository(tmp_path / "r", {"a": "1"})
    git(tmp_path / "r", "tag", "both")
    commit(tmp_path / "r", {"a": "2"})
    git(tmp_path / "r", "branch", "both")
    with pytest.raises(BuildError, match="write refs/heads/both or refs/tags/both"):
        resolve(_source(tmp_path / "r", "both"))


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    first = repository(tmp_path / "r", {"a": "1"})
    with pytest.raises(BuildError, match=r"has no branch or tag 'v2' .*a commit is written with all its digits"):
        resolve(_source(tmp_path / "r", "v2"))
    with pytest.raises(BuildError, match="has no branch or tag"):
        resolve(_source(tmp_path / "r", first[:10]))
    with pytest.raises(BuildError, match="git cannot get it"):
        resolve(_source(tmp_path / "nowhere", "v2"))
    with pytest.raises(BuildError, match=r"has no commit 1{40} \(any more\)"):
        fetch_commit(_source(tmp_path / "r"), "1" * 40, tmp_path / "x.tar")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r"]


def test_a_commit_has_the_contents_of_the_repository_whatever_git_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {
        "setup.py": "one\ntwo\n",
        "$Format:%d$.txt": "$Format:%H %d$\n",
        "tests/left_out.py": "",
        ".gitattributes": "*.txt export-subst\ntests export-ignore\n*.py text eol=crlf\n",
    }
    first = repository(tmp_path / "r", files)
    settings = tmp_path / "gitconfig"
    settings.write_text("[core]\nautocrlf = true\n[tar]\numask = 0077\n")
    fetch_commit(_source(tmp_path / "r"), first, tmp_path / "a.tar")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(settings))
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "nowhere"))
    fetch_commit(_source(tmp_path / "r"), first, tmp_path / "b.tar")
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()
    top = unpack(tmp_path / "a.tar", tmp_path / "out")
    assert {path.relative_to(top).as_posix(): path.read_text() for path in top.rglob("*") if path.is_file()} == files


def test_links_and_modes_are_kept_and_submodules_are_empty_directories(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    repository(tmp_path / "r", {"run": "x", "other": "y"})
    repository(tmp_path / "sub", {"z": "z"})
    (tmp_path / "r" / "run").chmod(0o755)
    (tmp_path / "r" / "link").symlink_to("run")
    git(
        tmp_path / "r",
        "-c",
        "protocol.file.allow=always",
        "submodule",
        "--quiet",
        "add",
        str(tmp_path / "sub"),
        "inner",
    )
    last = commit(tmp_path / "r", {"other": "z"})
    fetch_commit(_source(tmp_path / "r"), last, tmp_path / "a.tar")
    with tarfile.open(tmp_path / "a.tar") as archive:
        members = {member.name.removeprefix("source/"): member for member in archive}
    assert members["run"].mode == 0o755
    assert members["other"].mode == 0o644
    assert members["link"].linkname == "run"
    assert members["inner"].isdir()


def test_a_commit_that_no_branch_shows_first_is_found(tmp_path: Path) -> None:
    """A server that gives no single commit is asked for everything."""
    first = repository(tmp_path / "r", {"a": "1"})
    commit(tmp_path / "r", {"a": "2"})
    git(tmp_path / "r", "config", "uploadpack.allowAnySHA1InWant", "false")
    fetch_commit(_source(tmp_path / "r"), first, tmp_path / "a.tar")
    assert (unpack(tmp_path / "a.tar", tmp_path / "out") / "a").read_text() == "1"


class _Server(SimpleHTTPRequestHandler):
    """A repository for those who know the password, as a web server without git's own protocol gives it."""

    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        """Send a file to who knows the password."""
        if self.headers.get("Authorization") == "Basic " + base64.b64encode(b"user:hunter2").decode():
            super().do_GET()
            return
        self.send_response(401)
        self.send_header("WWW-Authenticate", 'Basic realm="x"')
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:
        """Remember what was asked for."""
        self.asked.append(format % arguments)


def test_git_brings_the_credentials_of_its_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = repository(tmp_path / "r", {"a": "1"})
    git(tmp_path, "clone", "--quiet", "--bare", str(tmp_path / "r"), "served/r.git")
    git(tmp_path / "served" / "r.git", "update-server-info")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    handler = functools.partial(_Server, directory=str(tmp_path / "served"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        source = GitSource(f"http://127.0.0.1:{server.server_address[1]}/r.git", "main")
        try:
            with pytest.raises(BuildError, match="git cannot get it") as caught:
                resolve(source)
            assert "could not read Username" in str(caught.value)  # nobody is asked for it
            (tmp_path / "home" / ".netrc").write_text("machine 127.0.0.1 login user password hunter2\n")
            assert resolve(source) == first
            fetch_commit(source, first, tmp_path / "a.tar")
        finally:
            server.shutdown()
    assert (unpack(tmp_path / "a.tar", tmp_path / "out") / "a").read_text() == "1"
    assert not [line for line in _Server.asked if "hunter2" in line]


def test_a_missing_git_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BuildError, match="the program `git` was not found on PATH"):
        resolve(GitSource("https://example.com/a", "main"))
