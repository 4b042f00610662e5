"""Small projects with a build backend of their own, as source archives and git repositories."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

BACKEND = '''\
"""A build backend of a few lines; a file `hook.py` beside it runs before the wheel is made."""

import pathlib, random, tempfile, zipfile

HERE = pathlib.Path(__file__).parent
NAME, VERSION, TAG = {name!r}, {version!r}, {tag!r}
REQUIRES, ASKS = {requires!r}, {asks!r}


def get_requires_for_build_wheel(config_settings=None):
    return ASKS


def prepare_metadata_for_build_wheel(directory, config_settings=None):
    return _info(pathlib.Path(directory))


def _info(directory):
    info = directory / (NAME + "-" + VERSION + ".dist-info")
    info.mkdir()
    lines = ["Metadata-Version: 2.1", "Name: " + NAME, "Version: " + VERSION]
    lines += ["Requires-Dist: " + text for text in REQUIRES]
    (info / "METADATA").write_text("\\n".join(lines) + "\\n\\nText.\\n")
    (info / "WHEEL").write_text("Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: " + TAG + "\\n")
    return info.name


def build_wheel(directory, config_settings=None, metadata_directory=None):
    hook = HERE / "hook.py"
    if hook.exists():
        exec(compile(hook.read_text(), str(hook), "exec"), {{"__name__": "hook", "HERE": HERE}})
    staged = pathlib.Path(tempfile.mkdtemp())
    _info(staged)
    for path in sorted((HERE / "content").rglob("*")):
        if path.is_file():
            target = staged / path.relative_to(HERE / "content")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
            target.chmod(path.stat().st_mode)
    name = NAME + "-" + VERSION + "-" + TAG + ".whl"
    files = [path for path in staged.rglob("*") if path.is_file()]
    random.shuffle(files)  # what a careless backend leaves to chance
    way = random.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
    with zipfile.ZipFile(directory + "/" + name, "w", way) as wheel:
        record = NAME + "-" + VERSION + ".dist-info/RECORD"
        lines = []
        for path in files:
            inside = path.relative_to(staged).as_posix()
            wheel.write(path, inside)
            lines.append(inside + "," + _hash(path.read_bytes()) + "," + str(path.stat().st_size))
        wheel.writestr(record, "\\n".join([*lines, record + ",,"]) + "\\n")
    return name


def _hash(data):
    import base64, hashlib
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")
'''


def project(
    name: str,
    version: str = "1.0",
    *,
    requires: Sequence[str] = (),
    static: Sequence[str] = (),
    asks: Sequence[str] = (),
    tag: str = "py3-none-any",
    hook: str = "",
    files: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Return the files of a project whose wheel holds the module ``name``.

    Args:
        requires: of the wheel.
        static: build requirements of pyproject.toml.
        asks: what the backend asks for besides.
        tag: of the wheel.
        hook: code that runs in the build.
        files: what the wheel holds besides.
    """
    backend = BACKEND.format(name=name, version=version, tag=tag, requires=list(requires), asks=list(asks))
    content = {f"{name}.py": f"version = {version!r}\n", **(files or {})}
    system = f'requires = {list(static)}\nbuild-backend = "backend"\nbackend-path = ["."]'
    result = {
        "pyproject.toml": f"[build-system]\n{system}\n",
        "backend.py": backend,
        "PKG-INFO": f"Metadata-Version: 1.0\nName: {name}\nVersion: {version}\n",
        **{f"content/{path}": text for path, text in content.items()},
    }
    return {**result, "hook.py": hook} if hook else result


def sdist(directory: Path, name: str, version: str, files: Mapping[str, str]) -> Path:
    """Write ``files`` as a source archive."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{name}-{version}.tar.gz"
    members = [(tarfile.TarInfo(f"{name}-{version}/{inside}"), text.encode()) for inside, text in files.items()]
    write_tar(path, members)
    return path


def write_tar(path: Path, members: Sequence[tuple[tarfile.TarInfo, bytes]]) -> None:
    """Write a tar of exactly ``members``."""
    with tarfile.open(path, "w:gz") as archive:
        for info, data in members:
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def repository(directory: Path, files: Mapping[str, str]) -> str:
    """Make a git repository of one commit; return its id."""
    directory.mkdir(parents=True)
    git(directory, "init", "--quiet", "--initial-branch=main")
    return commit(directory, files)


def commit(directory: Path, files: Mapping[str, str]) -> str:
    """Add a commit with ``files`` to a repository; return its id."""
    for inside, text in files.items():
        path = directory / inside
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    git(directory, "add", "--all")
    git(directory, "commit", "--quiet", "--message=change")
    return git(directory, "rev-parse", "HEAD")


def git(directory: Path, *arguments: str) -> str:
    """Run git as somebody, with nobody's configuration."""
    who = {"NAME": "somebody", "EMAIL": "somebody@example.com"}
    environment = {f"GIT_{role}_{key}": value for role in ("AUTHOR", "COMMITTER") for key, value in who.items()}
    environment |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull, "PATH": os.environ["PATH"]}
    result = subprocess.run(
        ["git", *arguments], cwd=directory, env=environment, capture_output=True, text=True, check=True
    )
    return result.stdout.strip()
