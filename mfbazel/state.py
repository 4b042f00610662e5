"""Where mfbazel keeps what it remembers between runs: the records of pushed images, and caches.

Nothing here needs more than the standard library: the module is also shipped to where Metaflow launches a flow.
``docs/design/interfaces.md`` is the contract for the locations.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from mfbazel.errors import MfbazelError

_WORKSPACE_MARKERS = ("MODULE.bazel", "REPO.bazel", "WORKSPACE.bazel", "WORKSPACE")
_LABEL = re.compile(r"(?:@{0,2}(?P<repo>[A-Za-z0-9._+~-]*))?//(?P<package>[^:]*)(?::(?P<name>[^:]+))?")


class StateError(MfbazelError):
    """A location cannot be derived: no workspace, or a label that is none."""


def state_dir(environ: Mapping[str, str] | None = None) -> Path:
    """Return the directory of mfbazel's records; it need not exist.

    ``$MFBAZEL_STATE_DIR``, else ``$XDG_STATE_HOME/mfbazel``, else ``~/.local/state/mfbazel``. ``environ`` stands in for
    the process's environment. As the XDG Base Directory specification says, a relative ``$XDG_STATE_HOME`` is ignored.
    """
    env = os.environ if environ is None else environ
    if own := env.get("MFBAZEL_STATE_DIR"):
        return Path(own).absolute()
    return _xdg(env, "XDG_STATE_HOME", ".local/state") / "mfbazel"


def cache_dir(environ: Mapping[str, str] | None = None) -> Path:
    """Return the directory of what mfbazel can make again; it need not exist.

    ``$XDG_CACHE_HOME/mfbazel``, else ``~/.cache/mfbazel``.
    """
    return _xdg(os.environ if environ is None else environ, "XDG_CACHE_HOME", ".cache") / "mfbazel"


def workspace_dir(environ: Mapping[str, str] | None = None, start: Path | None = None) -> Path:
    """Return the Bazel workspace in which the user works.

    ``$BUILD_WORKSPACE_DIRECTORY`` (set by ``bazel run``), else the closest directory at or above ``start`` (default:
    the working directory) that holds a workspace's marker file.

    Raises:
        StateError: there is no workspace.
    """
    env = os.environ if environ is None else environ
    if told := env.get("BUILD_WORKSPACE_DIRECTORY"):
        return Path(told)
    here = (start or Path.cwd()).absolute()
    for directory in (here, *here.parents):
        if any((directory / marker).is_file() for marker in _WORKSPACE_MARKERS):
            return directory
    raise StateError(
        f"no Bazel workspace at or above {here}: none of {', '.join(_WORKSPACE_MARKERS)} is there. Run it with "
        "`bazel run`, from inside the workspace, or set BUILD_WORKSPACE_DIRECTORY."
    )


def workspace_id(workspace: Path) -> str:
    """Return the first 12 hex digits of the sha256 of the workspace's real path."""
    return hashlib.sha256(os.fsencode(os.path.realpath(workspace))).hexdigest()[:12]


def parse_label(label: str) -> tuple[str, str]:
    """Split a Bazel label into package and name, both as paths with ``/``.

    ``//examples/churn:churn_flow`` gives ``("examples/churn", "churn_flow")``; ``//examples/churn`` names the target
    ``churn``. ``@//`` and ``@@//`` mean the main repository; a package of another repository lies below
    ``external/<repository>``.

    Raises:
        StateError: ``label`` is not an absolute label, or leaves the tree by ``..``.
    """
    match = _LABEL.fullmatch(label)
    package = match["package"] if match else ""
    name = (match["name"] or PurePosixPath(package).name) if match else ""
    parts = [*package.split("/")] if package else []
    if not name or any(part in ("", ".", "..") for part in (*parts, *name.split("/"))):
        raise StateError(f"{label!r} is not an absolute Bazel label; it looks like //package:name.")
    if match and match["repo"]:
        parts = ["external", match["repo"], *parts]
    return "/".join(parts), name


def images_path(workspace: Path, label: str, environ: Mapping[str, str] | None = None) -> Path:
    """Return where the push of the flow ``label`` of ``workspace`` is recorded; the file need not exist.

    Raises:
        StateError: see :func:`parse_label`.
    """
    package, name = parse_label(label)
    return state_dir(environ) / "images" / workspace_id(workspace) / package / name / "images.json"


def write_atomically(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8 to ``path``, whole or not at all, making the directories above.

    The file is written beside ``path`` and renamed. A file that already holds ``text`` is left untouched.

    Raises:
        OSError: the file cannot be written; what was there before is still there.
    """
    data = text.encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_file() and path.read_bytes() == data:
        return
    descriptor, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        Path(beside).chmod(0o666 & ~_umask())
        Path(beside).replace(path)
    except BaseException:
        Path(beside).unlink(missing_ok=True)
        raise


def _umask() -> int:
    """Return the process's umask (reading it means setting it)."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _xdg(env: Mapping[str, str], variable: str, below_home: str) -> Path:
    """Return an XDG base directory."""
    told = env.get(variable, "")
    if told.startswith("/"):
        return Path(told)
    home = env.get("HOME")
    return (Path(home) if home else Path.home()) / below_home
