"""From what a step asks for to an image that an engine can start."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from mfbazel.container.engines import AUTO, Engine, Say, choose
from mfbazel.container.errors import ContainerError
from mfbazel.container.layout import read_image
from mfbazel.container.model import Image
from mfbazel.state import cache_dir

_LAYOUT_PREFIX = "oci:"


@dataclass(frozen=True)
class Wanted:
    """What one step asks for."""

    engine: str
    """One of :data:`mfbazel.container.ENGINES`, or ``auto``."""
    image: str | None
    """A reference, or the directory of an OCI layout; None for the image of the step."""


def prepare(
    wanted: Mapping[str, Wanted], own: Callable[[], Mapping[str, str | Path]], environ: Mapping[str, str], say: Say
) -> dict[str, Image]:
    """Give the engines what they lack, each image once, and return the image of every step.

    Args:
        wanted: what each step asks for.
        own: called once if at all; returns the layout, or the reference, of each step's own image.
        environ: the environment variables.
        say: gets a line now and then.

    Raises:
        ContainerError: no engine works here, or one lacks an image and cannot get it.
    """
    for name in {want.engine for want in wanted.values()}:
        choose(name, environ.get("PATH"))  # before anything is built
    found = own() if any(not want.image for want in wanted.values()) else {}
    engines: dict[str, Engine] = {}
    taken: dict[tuple[str, str], Image] = {}
    images = {}
    for step, want in wanted.items():
        source = want.image or found.get(step)
        if source is None:
            raise ContainerError(f"there is no image of step {step}; give it one of your own with image=….")
        if want.engine not in engines:
            engines[want.engine] = _engine(want.engine, source, environ, say)
        engine = engines[want.engine]
        key = (engine.name, str(source))
        if key not in taken:
            taken[key] = take(engine, source, environ, say)
        images[step] = taken[key]
    return images


def _engine(name: str, source: str | Path, environ: Mapping[str, str], say: Say) -> Engine:
    """Return the engine ``name``; for ``auto`` the first that starts a container of ``source``.

    podman and docker may well answer where containers cannot be started: in a container, or without subordinate ids.
    """
    if name != AUTO:
        return choose(name, environ.get("PATH"))

    def why_not_start(engine: Engine) -> str:
        reason = engine.why_not_start(take(engine, source, environ, say))
        if reason:
            say(f"{engine.name} answers but starts no container: {reason}")
        return reason

    return choose(name, environ.get("PATH"), why_not_start)


def take(engine: Engine, source: str | Path, environ: Mapping[str, str], say: Say) -> Image:
    """Let ``engine`` take the layout or the reference ``source``.

    Raises:
        ContainerError: it cannot.
    """
    directory = Path(str(source).removeprefix(_LAYOUT_PREFIX))
    if directory.joinpath("oci-layout").is_file():
        return engine.take_layout(read_image(directory), cache(environ), say)
    if isinstance(source, Path) or source.startswith(_LAYOUT_PREFIX):
        raise ContainerError(f"{directory} is not the directory of an OCI layout.")
    return engine.take_reference(source, say)


def cache(environ: Mapping[str, str]) -> Path:
    """Return the directory of what containers leave for the next ones: unpacked layers and byte code."""
    return cache_dir(environ) / "containers"
