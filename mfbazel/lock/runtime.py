"""What Metaflow itself needs in the image of every step, per datastore: as the installed Metaflow says it.

Metaflow adds the same to the environments that it makes itself (``get_pinned_conda_libs`` of its configuration, which
its extensions may add to). The names are those of both conda and the Python index, as its source demands of them.

Nothing here looks at which datastore this machine is configured for: a lock is the same on every machine.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType

from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from mfbazel.lock.document import Lock
from mfbazel.lock.errors import LockError
from mfbazel.lock.model import LAUNCHER, RUNTIME_SOURCE, Wanted, parse_wanted
from mfbazel.lock.requirements_txt import parse_annotations

DEFAULT_DATASTORES = ("s3",)

_Ask = Callable[[str, str], Mapping[str, str]]
_CONFIGURATION = "metaflow.metaflow_config"
_IMPORTING = threading.Lock()
_CANDIDATES = ("azure", "gs", "local", "s3")
"""Names that Metaflow may know; for the error about one that it does not."""


def runtime_requirements(datastores: Sequence[str], python: str) -> tuple[Wanted, ...]:
    """Return what Metaflow needs in an image where data is kept in one of ``datastores``, in the order of names.

    Args:
        datastores: as Metaflow calls them: ``s3``, ``azure``, ``gs``, ``local``.
        python: ``X.Y`` of the images.

    Raises:
        LockError: Metaflow does not know a datastore, or cannot be imported.
    """
    specifiers: dict[str, SpecifierSet] = {}
    asked: dict[str, list[str]] = {}
    for datastore in dict.fromkeys(datastores):
        for written, specifier in _needed(datastore, python).items():
            name = canonicalize_name(written)
            specifiers[name] = specifiers.get(name, SpecifierSet()) & SpecifierSet(specifier)
            asked.setdefault(name, []).append(datastore)
    return tuple(
        parse_wanted(f"{name}{specifier}", f"Metaflow (`datastores`: {', '.join(asked[name])})")
        for name, specifier in sorted(specifiers.items())
    )


@functools.lru_cache(maxsize=256)
def _needed(datastore: str, python: str) -> Mapping[str, str]:
    """Return version specifiers by name."""
    ask = _metaflow()
    try:
        return dict(ask(python, datastore))
    except Exception as error:
        known = ", ".join(name for name in _CANDIDATES if _knows(ask, name, python))
        default = os.environ.get("METAFLOW_DEFAULT_DATASTORE", "")
        hint = f" (METAFLOW_DEFAULT_DATASTORE is {default} here)" if default and default != datastore else ""
        raise LockError(
            f"attribute `datastores`: Metaflow does not know a datastore '{datastore}'; it knows {known}{hint}"
        ) from error


def _metaflow() -> _Ask:
    try:
        ask: _Ask = _configuration().get_pinned_conda_libs
    except ImportError as error:
        raise LockError(
            f"what Metaflow needs in an image is asked of Metaflow, which cannot be imported: {error}. Install it "
            "beside mfbazel, or name what images need with `--runtime`."
        ) from error
    except Exception as error:  # its configuration, or an extension
        raise LockError(
            f"what Metaflow needs in an image is asked of Metaflow, which refuses to start: {error}. Check its "
            "configuration (METAFLOW_PROFILE, METAFLOW_HOME)."
        ) from error
    return ask


def _configuration() -> ModuleType:
    """Return Metaflow's configuration, without the rest of Metaflow, which takes many times as long to import."""
    spec = importlib.util.find_spec("metaflow")
    with _IMPORTING:
        if spec and "metaflow" not in sys.modules:
            before = set(sys.modules)
            sys.modules["metaflow"] = importlib.util.module_from_spec(spec)
            try:
                return importlib.import_module(_CONFIGURATION)
            except Exception:  # it needs more of Metaflow than we thought
                pass
            finally:
                for name in {name for name in sys.modules if name.partition(".")[0] == "metaflow"} - before:
                    del sys.modules[name]
        return importlib.import_module(_CONFIGURATION)


def _knows(ask: _Ask, datastore: str, python: str) -> bool:
    try:
        return ask(python, datastore) is not None
    except Exception:
        return False


def for_metaflow_alone(lock: Lock, environment: str) -> set[str]:
    """Return the distributions of ``environment`` that are there for Metaflow alone: nothing else asks for them.

    In the launcher's environment, where everything is there for Metaflow, there are none.
    """
    text = lock.texts.get(lock.environments[environment]["file"], "")
    asked: dict[str, set[str]] = {}
    for (name, _version), via in parse_annotations(text).items():
        asked.setdefault(name, set()).update(via)
    alone = set() if environment == LAUNCHER else {name for name, via in asked.items() if via}
    while others := {name for name in alone if asked[name] - alone - {RUNTIME_SOURCE}}:
        alone -= others
    return alone
