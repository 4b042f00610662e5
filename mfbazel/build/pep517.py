"""One source, one wheel: PEP 517 without downloads, in a place of its own."""

from __future__ import annotations

import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from build import BuildBackendException, BuildException, ProjectBuilder
from packaging.utils import canonicalize_name
from pyproject_hooks import BuildBackendWarning

from mfbazel.build.archive import unpack
from mfbazel.build.environment import BuildEnvironment, applies, make_environment, place_of
from mfbazel.build.errors import BuildError
from mfbazel.build.normalise import Built, normalise
from mfbazel.build.sandbox import TIMEOUT, Sandbox, tail

# What backends warn of is for the authors of the source.
warnings.filterwarnings("ignore", category=BuildBackendWarning)

_HISTORY = ("setuptools-scm", "setuptools_scm", "hatch-vcs", "vcs-versioning", "versioneer", "dunamai")


@dataclass(frozen=True)
class Recipe:
    """What is built.

    Attributes:
        archive: the source archive.
        requirements: the wheels of the build requirements and of all that these need.
        name: what messages call it (``docopt 0.6.2``).
        subdirectory: where in the source the project lies; empty for its top.
        timeout: seconds that one call of the backend may take.
    """

    archive: Path
    requirements: tuple[Path, ...]
    name: str
    subdirectory: str = ""
    timeout: float = TIMEOUT


@dataclass(frozen=True)
class Requirements:
    """Build requirements: ``static`` of pyproject.toml (or the default of PEP 517), ``dynamic`` of the backend."""

    static: tuple[str, ...]
    dynamic: tuple[str, ...] = ()

    @property
    def all(self) -> tuple[str, ...]:
        """Both, each once, sorted."""
        return tuple(sorted({*self.static, *self.dynamic}))


def requirements_of(recipe: Recipe) -> Requirements:
    """Return what building ``recipe`` requires.

    The backend is asked only when the static requirements are among the wheels of ``recipe``; what it runs is foreign
    code.

    Raises:
        BuildError: the archive is not a source, or the backend failed.
    """
    with _project(recipe) as project:
        static = tuple(sorted(project.builder.build_system_requires))
        if project.environment.missing(static):
            return Requirements(static)
        # Some backends name what the project's extras require as well.
        return Requirements(static, tuple(text for text in project.dynamic() if applies(text)))


def build_wheel(recipe: Recipe, output: Path) -> Built:
    """Build ``recipe``; put the wheel, normalised, into the directory ``output``.

    Raises:
        BuildError: the archive is not a source, a build requirement is missing, the backend failed, or the wheel is
            none.
    """
    with _project(recipe) as project:
        environment = project.environment
        missing = environment.missing({*project.builder.build_system_requires})
        missing = missing or environment.missing(project.dynamic())
        if missing:
            raise BuildError(
                f"{recipe.name}: building it requires {', '.join(missing)}, which is not among the locked build "
                f"requirements ({_listed(environment)}). Make the lock anew with the `.lock` target of the flow."
            )
        return normalise(project.wheel(), output)


def _listed(environment: BuildEnvironment) -> str:
    return ", ".join(f"{name} {version}" for name, version in sorted(environment.versions.items())) or "none"


@dataclass(frozen=True)
class _Project:
    """An unpacked source, and the environment of the requirements that are given."""

    recipe: Recipe
    sandbox: Sandbox
    builder: ProjectBuilder
    environment: BuildEnvironment

    def dynamic(self) -> tuple[str, ...]:
        with self._failures("said what it requires"):
            return tuple(sorted(self.builder.get_requires_for_build("wheel")))

    def wheel(self) -> Path:
        directory = self.sandbox.directory / "wheel"
        directory.mkdir()
        with self._failures("built the wheel"):
            return Path(self.builder.build("wheel", directory))

    @contextmanager
    def _failures(self, what: str) -> Iterator[None]:
        try:
            yield
        except BuildBackendException as error:
            printed = self.sandbox.printed
            reason = tail(printed) if printed.strip() else f"  | {error}"
            raise BuildError(
                f"{self.recipe.name}: its build backend failed before it {what}:\n{reason}\n{_advice(printed)}"
            ) from error


def _advice(printed: str) -> str:
    if any(word in printed for word in _HISTORY) and "version" in printed.lower():
        return (
            "Its version comes from the history of the repository, which a source archive does not have. Take its "
            "sdist from an index, or publish a wheel and require that."
        )
    if "Network is unreachable" in printed or "name resolution" in printed:
        return "Builds have no network: what they download must be in the source. Publish a wheel and require that."
    if "Python.h" in printed:
        return (
            f"Compiled code needs the headers of Python {sys.version_info.major}.{sys.version_info.minor} where it is "
            f"built (Debian: python{sys.version_info.major}.{sys.version_info.minor}-dev). Install them, or publish a "
            "wheel and require that."
        )
    return (
        "A build has only the source, its locked build requirements and the programs of /usr/bin. "
        "If it needs more, publish a wheel and require that."
    )


@contextmanager
def _project(recipe: Recipe) -> Iterator[_Project]:
    with tempfile.TemporaryDirectory(prefix="mfbazel-build-", ignore_cleanup_errors=True) as temporary:
        sandbox = Sandbox(Path(temporary).resolve(), recipe.timeout)
        source = _source(recipe, unpack(recipe.archive, sandbox.directory / "source"))
        builder = _builder(recipe, source, sandbox)
        yield _Project(recipe, sandbox, builder, make_environment(recipe.requirements, sandbox))


def _source(recipe: Recipe, top: Path) -> Path:
    below = PurePosixPath(recipe.subdirectory)
    if below.is_absolute() or ".." in below.parts:
        raise BuildError(f"{recipe.name}: `subdirectory={recipe.subdirectory}` leads out of the source")
    source = top / below
    if not source.is_dir() or not source.resolve().is_relative_to(top):
        raise BuildError(f"{recipe.name}: the source has no directory '{recipe.subdirectory}'")
    return source


def _builder(recipe: Recipe, source: Path, sandbox: Sandbox) -> ProjectBuilder:
    python = place_of(sandbox) / "bin" / "python"
    variables = sandbox.environment(python.parent)

    def runner(cmd: Sequence[str], cwd: str | None = None, extra_environ: Mapping[str, str] | None = None) -> None:
        sandbox.run(cmd, Path(cwd or source), {**variables, **(extra_environ or {})})

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ProjectBuilder(source, python_executable=str(python), runner=runner)
    except BuildException as error:
        raise BuildError(f"{recipe.name}: not a Python project that can be built: {error}") from error


def check_built(built: Built, name: str, version: str, file: str = "", sha256: str = "") -> None:
    """Check that ``built`` is what a lock says: ``name`` and ``version``, and ``file`` and ``sha256`` where given.

    Raises:
        BuildError: it is not.
    """
    who = f"{name} {version}"
    if canonicalize_name(built.name) != canonicalize_name(name) or built.version != version:
        raise BuildError(f"{who}: the source builds {built.name} {built.version}, another distribution or version")
    if file and built.path.name != file:
        raise BuildError(
            f"{who}: the build made {built.path.name}, locked is {file}: the project has compiled code, and this "
            "machine has another Python or platform than the one that locked, or lacks a compiler or the headers of "
            "Python. Build where it was locked, or publish a wheel and require that."
        )
    if sha256 and built.sha256 != sha256:
        raise BuildError(
            f"{who}: building its source gave other bytes than were locked\n"
            f"  locked: sha256:{sha256}\n"
            f"  built:  sha256:{built.sha256}\n"
            "What is built depends on the machine (a compiler, a library, the time), so it was not used. Publish a "
            f"wheel of it on your index and take '{name}' out of `build`; or lock again, if the tools of all machines "
            "have changed."
        )
