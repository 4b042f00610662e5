"""Commits of git repositories, as source archives.

Runs under CPython 3.9 or newer with the standard library alone (a repository rule uses it). The program ``git`` does
the transfer, with the user's own configuration: credentials, keys and proxies are its business.
"""

from __future__ import annotations

import io
import os
import re
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit, urlunsplit

from mfbazel.build.errors import BuildError

SCHEMES = ("https", "ssh", "http", "file")
"""What can follow ``git+`` in a requirement's URL."""

_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_TIME = 315532800  # 1980-01-01, as everywhere in this package
_TOP = "source"
_LOCAL_VARIABLES = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_NAMESPACE")


class GitSource(NamedTuple):
    """Where in a repository a project is: ``url`` as git takes it, ``revision`` (empty: the default branch),
    ``subdirectory`` (empty: the top)."""

    url: str
    revision: str
    subdirectory: str = ""

    @property
    def pinned(self) -> bool:
        """Whether the revision is a whole commit id."""
        return bool(_COMMIT.fullmatch(self.revision))


def parse_git_url(text: str) -> GitSource:
    """Read ``git+SCHEME://HOST/PATH[@REVISION][#subdirectory=DIR]``, as pip does.

    Raises:
        BuildError: it is something else, or holds a password or (but for ssh) a user.
    """
    parts = urlsplit(text)
    scheme = parts.scheme.partition("+")[2]
    if not parts.scheme.startswith("git+") or scheme not in SCHEMES:
        choices = ", ".join(f"git+{name}://" for name in SCHEMES)
        raise BuildError(f"it is none of {choices}")
    user, at, _ = parts.netloc.rpartition("@")
    if at and (scheme != "ssh" or ":" in user):
        raise BuildError(
            "it holds credentials, which do not belong into a source file: leave them out and let git find them (a "
            "credential helper, ~/.netrc, an ssh key)"
        )
    path, _, revision = parts.path.partition("@")
    fragment = dict(parse_qsl(parts.fragment))
    subdirectory = fragment.get("subdirectory", "").strip("/")
    if revision.startswith("-") or re.search(r"[\s\x00-\x1f]", unquote(revision)):
        raise BuildError(f"'{revision}' is not the name of a commit, branch or tag")
    if ".." in subdirectory.split("/"):
        raise BuildError(f"`subdirectory={subdirectory}` leads out of the repository")
    return GitSource(urlunsplit((scheme, parts.netloc, path, "", "")), unquote(revision), subdirectory)


def resolve(source: GitSource) -> str:
    """Return the id of the commit that ``source`` means now.

    Raises:
        BuildError: git is missing, the repository cannot be reached, or has no such branch or tag, or both.
    """
    if source.pinned:
        return source.revision
    name = source.revision
    prefixes = ("", "refs/heads/", "refs/tags/")
    patterns = [f"{prefix}{name}{end}" for prefix in prefixes for end in ("", "^{}")] if name else ["HEAD"]
    listed = _git(["ls-remote", "--quiet", "--", source.url, *patterns], source).decode("utf-8", "replace")
    found = {ref: commit for commit, _, ref in (line.partition("\t") for line in listed.splitlines())}
    if not name or name in found:  # HEAD, or the whole name of a reference
        wanted = found.get(f"{name}^{{}}", found.get(name or "HEAD"))
        candidates = {wanted} if wanted else set()
    else:
        tag = found.get(f"refs/tags/{name}^{{}}", found.get(f"refs/tags/{name}"))
        candidates = {commit for commit in (tag, found.get(f"refs/heads/{name}")) if commit}
    if len(candidates) > 1:
        raise BuildError(f"{source.url} has a branch and a tag '{name}': write refs/heads/{name} or refs/tags/{name}")
    if not candidates:
        raise BuildError(
            f"{source.url} has no branch or tag '{name or 'HEAD'}' (a commit is written with all its digits)"
        )
    return candidates.pop()


def fetch_commit(source: GitSource, commit: str, output: Path) -> None:
    """Write the files of ``commit`` as a tar whose bytes depend on them alone; ``output`` appears by a rename.

    They are the contents that the repository has: no filter of the user's git and no attribute of the repository
    changes or leaves out a file. Of a submodule there is an empty directory.

    Raises:
        BuildError: git is missing, the repository cannot be reached or has no such commit, or the disk refuses.
    """
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent) as temporary:
            repository = Path(temporary) / "repository"
            _git(["init", "--quiet", "--bare", str(repository)], source)
            _fetch(source, commit, repository)
            beside = Path(temporary) / output.name
            with beside.open("wb") as stream:
                _write_tar(source, commit, repository, stream)
            beside.replace(output)
    except OSError as error:
        raise BuildError(f"{source.url}: cannot write {output}: {error.strerror or error}") from error


def _fetch(source: GitSource, commit: str, repository: Path) -> None:
    """Fetch the one commit; all branches and tags where the server gives no single one."""
    command = ["--git-dir", str(repository), "fetch", "--quiet", "--no-tags"]
    try:
        _git([*command, "--depth", "1", "--", source.url, commit], source)
        return
    except BuildError:
        _git([*command, "--", source.url, "+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"], source)
    try:
        _git(["--git-dir", str(repository), "cat-file", "-e", f"{commit}^{{commit}}"], source)
    except BuildError as error:
        raise BuildError(
            f"{source.url} has no commit {commit} (any more): no branch or tag leads to it. Lock again with "
            "`--upgrade-package` and the name of the distribution."
        ) from error


def _write_tar(source: GitSource, commit: str, repository: Path, stream: IO[bytes]) -> None:
    listed = _git(["--git-dir", str(repository), "ls-tree", "-r", "-z", "--full-tree", commit], source)
    entries = [_entry(record) for record in listed.split(b"\0") if record]
    blobs = [entry.object for entry in entries if entry.kind == "blob"]
    contents = _blobs(repository, blobs, source)
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for entry in entries:
            info = tarfile.TarInfo(f"{_TOP}/{entry.path}")
            info.mtime = _TIME
            info.mode = 0o755 if entry.mode in ("100755", "160000") else 0o644
            content = next(contents) if entry.kind == "blob" else b""
            if entry.kind != "blob":
                info.type = tarfile.DIRTYPE
            elif entry.mode == "120000":
                info.type, info.linkname = tarfile.SYMTYPE, os.fsdecode(content)
            else:
                info.size = len(content)
            archive.addfile(info, io.BytesIO(content) if info.isreg() else None)


class _Entry(NamedTuple):
    """A line of ``git ls-tree``."""

    mode: str
    kind: str
    object: str
    path: str


def _entry(record: bytes) -> _Entry:
    head, _, path = record.partition(b"\t")
    mode, kind, name = head.decode("ascii").split()
    return _Entry(mode, kind, name, os.fsdecode(path))


def _blobs(repository: Path, names: Sequence[str], source: GitSource) -> Iterator[bytes]:
    """Yield the contents of ``names`` in their order."""
    asked = "".join(f"{name}\n" for name in names).encode("ascii")
    answer = io.BytesIO(_git(["--git-dir", str(repository), "cat-file", "--batch"], source, asked))
    for name in names:
        found, kind, size = answer.readline().decode("ascii").split()
        assert (found, kind) == (name, "blob")
        yield answer.read(int(size))
        answer.read(1)


def _git(arguments: Sequence[str], source: GitSource, data: bytes = b"") -> bytes:
    """Run git, which asks nobody anything; return its standard output."""
    environment = {name: value for name, value in os.environ.items() if name not in _LOCAL_VARIABLES}
    environment.update(GIT_TERMINAL_PROMPT="0", LC_ALL="C.UTF-8")
    environment.setdefault("GIT_SSH_COMMAND", "ssh -oBatchMode=yes")
    # Of the transports only those that a requirement may name.
    environment["GIT_ALLOW_PROTOCOL"] = ":".join(SCHEMES)
    try:
        result = subprocess.run(["git", *arguments], env=environment, input=data, capture_output=True, check=False)
    except FileNotFoundError as error:
        raise BuildError(
            f"{source.url}: the program `git` was not found on PATH, which fetches it: install it (Debian: "
            "`apt-get install git`)"
        ) from error
    if result.returncode != 0:
        said = [line for line in result.stderr.decode("utf-8", "replace").splitlines() if line.strip()]
        reason = "\n".join(f"  | {line}" for line in said[-6:])
        raise BuildError(f"{source.url}: git cannot get it:\n{reason}")
    return result.stdout
