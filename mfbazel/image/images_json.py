"""The ``images.json`` of a build: every step's image by digest, known without pushing (docs/design/interfaces.md)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mfbazel.image.errors import ImageError
from mfbazel.image.layout import Image, Json, images, top_descriptor
from mfbazel.image.lock import Lock
from mfbazel.image.metadata import flow_name, platform_slug
from mfbazel.image.templates import Stamp, expand, stamp_variables, variables
from mfbazel.policy import Rules, SigningRules, check_registry, refuse

# OCI distribution-spec 1.1: the grammar of a tag.
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")


@dataclass(frozen=True)
class Names:
    """How the images of a flow are called in a registry; see :mod:`mfbazel.image.templates`.

    Attributes:
        repository: template, ``None`` if it is not configured.
        tags: templates.
        stamp: the stamp variables.
    """

    repository: str | None = None
    tags: Sequence[str] = ()
    stamp: Stamp = field(default_factory=Stamp)


@dataclass(frozen=True)
class Derived:
    """Where images come from besides the environments of their steps.

    Attributes:
        includes: step → steps whose images its image is derived from.
        foreign: steps whose image is not made from the lock.
    """

    includes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    foreign: Sequence[str] = ()


@dataclass(frozen=True)
class _Step:
    """A step and its image."""

    name: str
    label: str
    digest: str
    platforms: Sequence[Image]
    lock: str | None
    requirements: str

    def values(self) -> dict[str, str]:
        # What an image is called that is not made from the lock does not change with it.
        named = {"flow": flow_name(self.label), "step": self.name, "lock": self.lock or _digits(self.digest)}
        if len(self.platforms) == 1:
            named["platform"] = platform_slug(self.platforms[0].platform)
        return named


def build_images(
    lock: Lock,
    label: str,
    names: Names,
    layouts: Mapping[str, Path],
    derived: Derived | None = None,
    rules: Rules | None = None,
    signing: SigningRules | None = None,
) -> Json:
    """Return the content of ``images.json``.

    Args:
        lock: of the flow.
        label: of the flow's target.
        names: how the images are called.
        layouts: step → layout directory of its image.
        derived: where images come from besides; default: nowhere.
        rules: what the workspace allows; default: everything.
        signing: what must be signed; default: nothing. This, and what ``rules`` say of registries, goes into the file,
            since it also holds where a flow is launched without the workspace.

    Raises:
        PolicyError: a repository is not allowed.
        ImageError: the lock holds no flow, the steps of the two differ, a layout is not usable, a template cannot be
            expanded, or one tag would name two images.
    """
    flow = lock.flow
    steps = {step["name"]: step for step in flow["steps"]}
    missing, unknown = sorted(steps.keys() - layouts.keys()), sorted(layouts.keys() - steps.keys())
    if missing:
        raise ImageError(f"{lock.path}: no image was given for: {', '.join(missing)} (flow {flow['name']})")
    if unknown:
        raise ImageError(
            f"{lock.path}: flow {flow['name']} has no step: {', '.join(unknown)}; it has {', '.join(steps)}"
        )
    derived = derived or Derived()
    found = [_step(lock, label, step, layouts[name], derived) for name, step in steps.items()]
    repositories = {step.name: _repository(step, names) for step in found}
    rules = rules or Rules()
    _check_repositories(rules, label, repositories)
    common = set(repositories.values())
    entries = {
        step.name: {
            "digest": step.digest,
            "requirements_sha256": step.requirements,
            "platforms": sorted(image.platform for image in step.platforms),
            "layers": {image.platform: _layers(image) for image in step.platforms},
            **({"lock": step.lock} if step.lock else {}),
            **({"includes": list(below)} if step.lock and (below := derived.includes.get(step.name)) else {}),
            **({"repository": repositories[step.name]} if len(common) > 1 else {}),
            **_tags(step, names),
        }
        for step in found
    }
    _check_tags(label, entries)
    return {
        "schema": 1,
        "flow": flow["name"],
        "label": label,
        "repository": common.pop() if len(common) == 1 else None,
        "steps": entries,
        **({"policy": said} if (said := _policy(rules, signing or SigningRules())) else {}),
        **({"tags": tags} if (tags := _flow_tags(label, names)) else {}),
    }


def _policy(rules: Rules, signing: SigningRules) -> Json:
    """Return what of the policy holds where the flow is launched; empty when that is nothing."""
    said = {**rules.only("registries"), **signing.table()}
    return {**said, **({"contact": rules.contact} if said and rules.contact else {})}


def _check_repositories(rules: Rules, label: str, repositories: Mapping[str, str | None]) -> None:
    named = dict.fromkeys(repository for repository in repositories.values() if repository)
    found = [item for repository in named for item in check_registry(rules, "the repository", repository)]
    refuse(rules, f"{label}: repositories of images", found)


def to_json(document: Json) -> bytes:
    """Return the file's content: two spaces of indentation, sorted keys, a newline at the end."""
    return (json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


def _step(lock: Lock, label: str, step: Json, layout: Path, derived: Derived) -> _Step:
    environments = {entry["name"]: entry["environment"] for entry in lock.flow["steps"]}
    name = step["name"]
    below = [environments[parent] for parent in derived.includes.get(name, ())]
    packages = None if name in derived.foreign else lock.environments_hash([step["environment"], *below])
    digest = top_descriptor(layout)["digest"]
    return _Step(name, label, digest, images(layout), packages, step["requirements_sha256"])


def _layers(image: Image) -> list[str]:
    """Return the digests of an image's layers, from the bottom to the top."""
    return [layer["digest"] for layer in image.manifest["layers"]]


def _digits(digest: str) -> str:
    return digest.removeprefix("sha256:")[:16]


def _repository(step: _Step, names: Names) -> str | None:
    if names.repository is None:
        return None
    where = f"{step.label}, step {step.name}: attribute `repository`"
    if "platform" in variables(names.repository) and len(step.platforms) > 1:
        has = ", ".join(sorted(image.platform for image in step.platforms))
        raise ImageError(
            f"{where}: {names.repository!r} names {{platform}}, and the image is one index for {has}, which is in one "
            "repository. Use {platform} in `remote_tags` instead."
        )
    return expand(names.repository, step.values(), names.stamp, where)


def _tags(step: _Step, names: Names) -> Json:
    """Return ``tags``, tag → digest, and ``unstamped_tags``, the templates that wait for a stamped build."""
    tags: dict[str, str] = {}
    waiting: list[str] = []
    for template in names.tags:
        if stamp_variables(template) and not names.stamp.stamped:
            waiting.append(template)
            continue
        where = f"{step.label}, step {step.name}: attribute `remote_tags`"
        if "platform" in variables(template):
            for image in step.platforms:
                values = {**step.values(), "platform": platform_slug(image.platform)}
                tags[_tag(template, values, names.stamp, where)] = image.digest
        else:
            tags[_tag(template, step.values(), names.stamp, where)] = step.digest
    return {**({"tags": tags} if tags else {}), **({"unstamped_tags": waiting} if waiting else {})}


def _flow_tags(label: str, names: Names) -> list[str]:
    """Return the tags of what is of the whole flow, ``{step}`` left open; none that says what only an image has."""
    values = {"flow": flow_name(label), "step": "{step}"}
    where = f"{label}: attribute `remote_tags`"
    return [
        expand(template, values, names.stamp, where)
        for template in names.tags
        if not {"lock", "platform"} & {*variables(template)} and (names.stamp.stamped or not stamp_variables(template))
    ]


def _tag(template: str, values: Mapping[str, str], stamp: Stamp, where: str) -> str:
    tag = expand(template, values, stamp, where, known=["platform"])
    if not _TAG.fullmatch(tag):
        raise ImageError(
            f"{where}: {template!r} gives {tag!r}, which is no tag: a tag has at most 128 letters, digits, '_', '.' "
            "and '-', and starts with a letter, a digit or '_'"
        )
    return tag


def _check_tags(label: str, entries: Mapping[str, Json]) -> None:
    """Refuse a tag that would name two images of one repository."""
    seen: dict[tuple[str | None, str], tuple[str, str]] = {}
    for name, entry in entries.items():
        for tag, digest in entry.get("tags", {}).items():
            other, there = seen.setdefault((entry.get("repository"), tag), (name, digest))
            if there != digest:
                raise ImageError(
                    f"{label}: attribute `remote_tags`: the tag {tag!r} would name the images of {other} and of "
                    f"{name}. "
                    "Use {step} in the tag or in `repository`."
                )
