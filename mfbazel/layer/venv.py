"""The skeleton of the virtual environment: the one layer that depends on where the base image keeps its interpreter."""

from __future__ import annotations

import posixpath

from mfbazel.layer.errors import LayerError
from mfbazel.layer.install import VENV, Scheme, with_directories
from mfbazel.layer.tar import DIRECTORY, FILE, SYMLINK, Content, Entry

_OWNER = "mfbazel-venv"


def skeleton(python: str, interpreter: str, *, system_packages: bool = False) -> list[Entry]:
    """Return the skeleton's entries (PEP 405): ``pyvenv.cfg``, links to the interpreter, an empty site-packages.

    Args:
        python: version, ``X.Y``.
        interpreter: absolute path in the base image, for example ``/usr/bin/python3.14``.
        system_packages: whether the base image's own packages can be imported too.

    Raises:
        LayerError: ``interpreter`` is not absolute, or lies in the environment itself.
    """
    scheme = Scheme(python)
    home = posixpath.dirname(interpreter)
    if posixpath.normpath(interpreter) != interpreter or not interpreter.startswith("/") or "\n" in interpreter:
        raise LayerError(
            f"interpreter {interpreter!r} is not an absolute path in the base image, such as /usr/bin/python{python}"
        )
    if interpreter.startswith(f"/{VENV}/"):
        raise LayerError(
            f"interpreter {interpreter!r} lies in the virtual environment itself: name the base image's own one"
        )
    system = str(system_packages).lower()
    config = f"home = {home}\ninclude-system-site-packages = {system}\nversion = {python}\n"
    links = {"bin/python": interpreter, "bin/python3": "python", f"bin/python{python}": "python", "lib64": "lib"}
    return with_directories(
        [
            Entry(f"{VENV}/pyvenv.cfg", FILE, 0o644, Content(config.encode()), owner=_OWNER),
            Entry(scheme.site_packages, DIRECTORY, 0o755, owner=_OWNER),
            *(Entry(f"{VENV}/{path}", SYMLINK, 0o777, link=target, owner=_OWNER) for path, target in links.items()),
        ]
    )
