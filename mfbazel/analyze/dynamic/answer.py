"""From what Metaflow says to a :class:`RawFlow`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from mfbazel.analyze.dynamic.places import Places
from mfbazel.analyze.errors import AnalyzeError, DynamicError
from mfbazel.analyze.hardware import ATTRIBUTES, amount, platform_of, requests_of
from mfbazel.analyze.model import Place, Reading, Remote, Requests
from mfbazel.analyze.raw import RawFlow, RawStep, Written
from mfbazel.analyze.requirements import Attributes, is_disabled, merge

_REMOTES = ("batch", "kubernetes")
_HARDWARE = (*_REMOTES, "resources")
_UNKNOWN = "⟨unknown: "
Found = TypeVar("Found")


@dataclass(frozen=True)
class Answer:
    """Reads what ``bazel_flow_spec.describe`` of the extension wrote."""

    spec: Mapping[str, Any]
    places: Places

    def flow(self, reading: Reading) -> RawFlow:
        """Return the flow.

        Raises:
            DynamicError: an attribute has a value that cannot be known here, or that means nothing.
        """
        steps = tuple(self._step(step) for step in self.spec["steps"])
        return RawFlow(self.spec["name"], self.places.module.shown, self.spec["start"], steps, reading)

    def _step(self, step: Mapping[str, Any]) -> RawStep:
        place = self.places.step(step)
        where = f"step '{step['name']}'"
        hardware = [item for item in step["decorators"] if item["name"] in _HARDWARE]
        for item in hardware:
            self._require_known(item["attributes"], f"{where}: @{item['name']}", self._place(item, place))
        remotes = (self._remote(item, place) for item in hardware if item["name"] in _REMOTES)
        packages = {name: self._packages(name, found, where, place) for name, found in step["packages"].items()}
        return RawStep(
            name=step["name"],
            type=step["type"],
            next=() if step["type"] == "end" else tuple(step["next"]),
            place=place,
            decorators=tuple(sorted({item["name"] for item in step["decorators"]})),
            pypi=packages.get("pypi"),
            conda=packages.get("conda"),
            remote=tuple(sorted(remotes, key=lambda item: item.decorator)),
            requests=self._requests(hardware, where, place),
            platform=self._platform(hardware, where, place),
        )

    def _place(self, decorator: Mapping[str, Any], otherwise: Place) -> Place:
        return self.places.decorator(decorator["origin"]) if decorator["origin"] else otherwise

    def _remote(self, decorator: Mapping[str, Any], step: Place) -> Remote:
        image, place = decorator["attributes"].get("image"), self._place(decorator, step)
        if image and not isinstance(image, str):
            raise DynamicError(f"{place}: `image` of @{decorator['name']} is {_shown(image)}, not text")
        return Remote(decorator["name"], image or None, place.line)

    def _requests(self, hardware: Sequence[Mapping[str, Any]], where: str, step: Place) -> Requests:
        for item in hardware:
            for name in ATTRIBUTES:
                self._checked(partial(amount, name), item, name, where, step)
        return requests_of(item["attributes"] for item in hardware)

    def _platform(self, hardware: Sequence[Mapping[str, Any]], where: str, step: Place) -> str | None:
        found = (self._checked(platform_of, item, "node_selector", where, step) for item in hardware)
        return next((platform for platform in found if platform), None)

    def _checked(
        self, meaning: Callable[[Any], Found], decorator: Mapping[str, Any], name: str, where: str, step: Place
    ) -> Found:
        """Return what the attribute ``name`` of ``decorator`` means, with the place where it means nothing."""
        try:
            return meaning(decorator["attributes"].get(name))
        except AnalyzeError as error:
            raise DynamicError(f"{self._place(decorator, step)}: {where}: @{decorator['name']}: {error}") from error

    def _packages(self, name: str, found: Mapping[str, Any], where: str, step: Place) -> Attributes[Written] | None:
        own = self._attributes(name, found["own"], found["origin"], where, step)
        base = self._attributes(f"{name}_base", found["base"], found["base_origin"], where, step)
        merged = merge(base, own)
        expected = {str(key): _version(name, value) for key, value in _pairs(found["merged"]["packages"])}
        if merged is None or {key: item.version for key, item in merged.packages.items()} != expected:
            raise DynamicError(
                f"{step}: {where}: Metaflow's own @{name} has other packages than the decorators say: {expected}. Is "
                "another extension of Metaflow installed here that replaces the decorator?"
            )
        return merged

    def _attributes(
        self, name: str, said: Mapping[str, Any] | None, origin: Mapping[str, Any] | None, where: str, step: Place
    ) -> Attributes[Written] | None:
        if said is None:
            return None
        place = self.places.decorator(origin) if origin else step
        self._require_known(said, f"{where}: @{name}", place)
        if isinstance(said["packages"], Mapping):
            raise DynamicError(
                f"{place}: {where}: `packages` of @{name} is {_shown(said['packages'])}, not a dict: write "
                '`packages={"name": "version"}`'
            )
        entries = self.places.packages(origin, {str(key): version for key, version in said["packages"]}, step)
        packages: dict[str, Written] = {}
        for key, version in said["packages"]:
            packages[str(key)] = self._written(name, key, version, entries[str(key)], where)
        python, disabled = said["python"], said["disabled"]
        if name == "conda_base" and isinstance(python, int | float):
            python = str(python)
        if python and not isinstance(python, str):
            raise DynamicError(
                f'{place}: {where}: @{name}: `python` is {_shown(python)}, not text: write "{_shown(python)}"'
            )
        return Attributes(packages, python or None, None if disabled is None else is_disabled(disabled))

    def _written(self, name: str, key: Any, version: Any, place: Place, where: str) -> Written:
        if not isinstance(key, str):
            raise DynamicError(
                f"{place}: {where}: @{name}: the key {_shown(key)} is not text: write the name of a package"
            )
        text = _version(name, version)
        if not isinstance(text, str):
            raise DynamicError(
                f'{place}: {where}: @{name}: the version of "{key}" is {_shown(version)}, not text: '
                f'write "{_shown(version)}"'
            )
        return Written(text, name, place)

    def _require_known(self, attributes: Mapping[str, Any], where: str, place: Place) -> None:
        """Refuse values that come from a package that is not there."""
        for attribute, value in attributes.items():
            for text in _texts(value):
                if _UNKNOWN in text:
                    name = text.partition(_UNKNOWN)[2].partition("⟩")[0]
                    raise DynamicError(
                        f"{place}: {where}: `{attribute}` comes from `{name}`, and the package "
                        f"`{name.partition('.')[0]}` is not installed while the flow is read: write the value as a "
                        "literal, or take it from a Config or from first-party code"
                    )


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield str(key)
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)


def _pairs(packages: Any) -> Sequence[Any]:
    return packages if isinstance(packages, list) else ()


def _version(decorator: str, value: Any) -> Any:
    """Return the version; Metaflow puts any number into a requirement of conda, but takes text only for pip."""
    return str(value) if decorator.startswith("conda") and type(value) in (int, float) else value


def _shown(value: Any) -> str:
    return str(value["repr"]) if isinstance(value, Mapping) and "repr" in value else str(value)
