"""From what ``bazel run //flows:my_flow -- …`` was given to the process that is Metaflow's command line."""

from __future__ import annotations

import getpass
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mfbazel
from mfbazel.launch.errors import LaunchError
from mfbazel.launch.venv import Interpreter, create_atomically, probe, write_venv
from mfbazel.state import cache_dir

LAUNCHER = "_launcher"
"""Name of the environment that runs Metaflow's command line."""

NO_VERIFY = "--no-verify"
"""Option before those of Metaflow: do not ask registries for the images."""

_METAFLOW = Path("metaflow", "__init__.py")


@dataclass(frozen=True)
class FlowLaunch:
    """What the rule ``metaflow_flow`` tells its launcher."""

    flow: Path
    """The flow's file; its directory is what Metaflow packs for remote tasks."""
    lock: Path
    """``flow.json``."""
    label: str
    """Label of the flow's target."""
    sites: Path
    """JSON file: environment → directories, one per unpacked wheel, each with the content of a ``site-packages``."""
    python: Path
    """Interpreter below all environments."""
    runfiles: Path
    """Directory that relative paths in JSON files start from."""
    import_roots: Sequence[Path] = field(default_factory=tuple)
    """Directories from which first-party code is imported."""
    first_party: Path | None = None
    """JSON file: path in the code package → file, for first-party code outside the flow's directory."""
    configs: Mapping[str, str] = field(default_factory=dict)
    """Files for the flow's ``Config``, by its name."""
    config_values: Mapping[str, str] = field(default_factory=dict)
    """Values (JSON text) for the flow's ``Config``, by its name."""


def prepare(launch: FlowLaunch, environ: Mapping[str, str]) -> tuple[list[str], dict[str, str]]:
    """Make the interpreters that are missing, and return the start of the command line and the variables of Metaflow.

    The command line lacks the arguments of Metaflow itself.

    Raises:
        LaunchError: a file is missing or damaged, or the lock was made for another Python than ``launch.python``.
    """
    if not launch.flow.is_file():
        raise LaunchError(f"there is no flow {launch.flow}")
    pythons = _pythons(launch.lock)
    sites = _sites(launch)
    interpreter = probe(launch.python)
    _require_launcher(launch, pythons, interpreter)
    usable = {name: sites[name] for name in sorted(sites) if pythons.get(name) == interpreter.version}
    venvs = _create_venvs(usable, interpreter, environ)
    return [str(venvs / LAUNCHER / "bin" / "python"), str(launch.flow)], _variables(launch, venvs, environ)


def own_options(arguments: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Take what is ours from the front of ``arguments``: Metaflow refuses options that it does not know.

    Returns:
        The arguments of Metaflow, and environment variables to set.
    """
    rest = list(arguments[1:] if arguments[:1] == ["--"] else arguments)
    variables = {}
    while rest[:1] == [NO_VERIFY]:
        del rest[0]
        variables["MFBAZEL_VERIFY"] = "0"
    return rest, variables


def working_directory(environ: Mapping[str, str]) -> Path:
    """Return where the user typed the command: Metaflow keeps its local datastore there."""
    return Path(environ.get("BUILD_WORKING_DIRECTORY") or Path.cwd())


def _pythons(lock: Path) -> dict[str, str]:
    """Return the Python version of every environment of the lock, major and minor."""
    content = _read_object(lock, "lock of the flow")
    try:
        return {
            name: ".".join(str(environment["python"]).split(".")[:2])
            for name, environment in content["environments"].items()
        }
    except (KeyError, TypeError, AttributeError) as error:
        raise LaunchError(f"{lock} is not the lock of a flow ({error!r})") from error


def _sites(launch: FlowLaunch) -> dict[str, list[Path]]:
    """Return the directories of packages of every environment; each step's gain Metaflow's, from the launcher's."""
    content = _read_object(launch.sites, "list of package directories")
    sites = {name: [launch.runfiles / site for site in listed] for name, listed in content.items()}
    metaflow = [site for site in sites.get(LAUNCHER, ()) if site.joinpath(_METAFLOW).is_file()]
    if not metaflow:
        raise LaunchError(f"{launch.sites}: the environment {LAUNCHER} has no directory with Metaflow in it")
    return {name: [*listed, *(site for site in metaflow if site not in listed)] for name, listed in sites.items()}


def _require_launcher(launch: FlowLaunch, pythons: Mapping[str, str], interpreter: Interpreter) -> None:
    """Refuse to start Metaflow on another Python than the one that its packages are locked for."""
    if (locked := pythons.get(LAUNCHER)) != interpreter.version:
        raise LaunchError(
            f"{launch.lock}: the environment {LAUNCHER} is locked for Python {locked}, but {launch.python} is Python "
            f"{interpreter.version}. Choose the Python toolchain {locked}, or run `bazel run {launch.label}.lock`."
        )


def _create_venvs(sites: Mapping[str, Sequence[Path]], interpreter: Interpreter, environ: Mapping[str, str]) -> Path:
    """Return the directory with a virtual environment for each of ``sites``; it is named after what they hold."""
    said = {name: [str(site.absolute()) for site in listed] for name, listed in sites.items()}
    key = hashlib.sha256(json.dumps([1, str(interpreter.path), interpreter.version, said], sort_keys=True).encode())
    out = cache_dir(environ) / "venvs" / key.hexdigest()[:24]

    def write(directory: Path) -> None:
        for name, listed in sites.items():
            environment = directory / name
            environment.mkdir()
            write_venv(environment, interpreter, listed)

    create_atomically(out, write)
    return out


def _variables(launch: FlowLaunch, venvs: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment variables of Metaflow's process and of the tasks that it starts on this machine.

    Python does not put the script's directory on ``sys.path`` by itself here: it would resolve the symlinks of a
    runfiles tree and find the source directory, with modules that the target does not declare.
    """
    package = Path(mfbazel.__file__).absolute().parent
    roots = [launch.flow.parent, *launch.import_roots, package.parent, package / "extension"]
    own = {
        "MFBAZEL_FLOW_LOCK": str(launch.lock),
        "MFBAZEL_FLOW_LABEL": launch.label,
        "MFBAZEL_STEP_PYTHON_DIR": str(venvs),
        "MFBAZEL_RUNFILES": str(launch.runfiles),
        "PYTHONPATH": os.pathsep.join(dict.fromkeys(map(str, roots))),
        "PYTHONSAFEPATH": "1",
    }
    if launch.first_party is not None:
        own["MFBAZEL_FIRST_PARTY"] = str(launch.first_party)
    preset = {
        **_user(environ),
        "METAFLOW_DEFAULT_ENVIRONMENT": "bazel",
        "PYTHONPYCACHEPREFIX": str(cache_dir(environ) / "pycache"),
    }
    if launch.configs:
        files = {name: str(Path(file).absolute()) for name, file in launch.configs.items()}
        preset["METAFLOW_FLOW_CONFIG"] = json.dumps(files)
    if launch.config_values:
        preset["METAFLOW_FLOW_CONFIG_VALUE"] = json.dumps(dict(launch.config_values))
    inherited = {name: value for name, value in environ.items() if name not in ("PYTHONHOME", "MFBAZEL_FIRST_PARTY")}
    return {**inherited, **{name: value for name, value in preset.items() if not inherited.get(name)}, **own}


def _user(environ: Mapping[str, str]) -> dict[str, str]:
    """Return ``METAFLOW_USER`` where Metaflow would find no name: it refuses root, as whom containers and CI run."""
    if any(environ.get(name, "root") != "root" for name in ("METAFLOW_USER", "SUDO_USER", "USERNAME", "USER")):
        return {}
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        name = "root"
    return {"METAFLOW_USER": "local-root" if name == "root" else name}


def read_list(path: Path, what: str) -> list[str]:
    """Return the JSON list of texts in ``path``; ``what`` says in errors what it is.

    Raises:
        LaunchError: it cannot be read, or holds something else.
    """
    content = _read_json(path, what)
    if not isinstance(content, list) or not all(isinstance(item, str) for item in content):
        raise LaunchError(f"the {what}, {path}, is not a JSON list of texts")
    return content


def _read_object(path: Path, what: str) -> dict[str, Any]:
    """Return the JSON object in ``path``."""
    content = _read_json(path, what)
    if not isinstance(content, dict):
        raise LaunchError(f"the {what}, {path}, is not a JSON object")
    return content


def _read_json(path: Path, what: str) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise LaunchError(f"the {what}, {path}, cannot be read: {error}") from error
