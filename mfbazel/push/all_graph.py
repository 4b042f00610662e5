"""The targets of a workspace and what they are made of, from Bazel's query.

Only packages of the workspace itself are in it: looking into a wheel's repository would download the wheel.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FLOW_RULE = "flow_images"
"""The rule of a flow's images."""
MISSING_RULE = "missing_lock"
"""The rule in its place where the flow has no lock."""
FLOW_SUFFIX = ".images"
"""What its name has after the flow's."""

ATTRIBUTES = "tags,toolchain"
"""The attributes of rules that a query has to tell."""

_TOOLCHAIN = "toolchain"
_SOURCE = "source file"
_GENERATED = "generated file"


@dataclass(frozen=True)
class Node:
    """A target.

    Attributes:
        name: its label; the main repository has no name in it.
        kind: the rule's name, or what kind of file it is.
        inputs: labels of what it is made of, implicit dependencies and all branches of a select included; of a
            `toolchain` also what it stands for, which Bazel does not count.
        file: where a source file lies.
        tags: of a rule.
    """

    name: str
    kind: str
    inputs: tuple[str, ...] = ()
    file: Path | None = None
    tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Graph:
    """Targets by label.

    Attributes:
        nodes: the targets.
        packages: the packages of the main repository, each with its targets.
    """

    nodes: Mapping[str, Node]
    packages: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, nodes: Iterable[Node]) -> Graph:
        """Make the graph of ``nodes``."""
        by_name = {node.name: node for node in nodes}
        packages: dict[str, list[str]] = {}
        for name in by_name:
            if name.startswith("//"):
                packages.setdefault(name[2:].partition(":")[0], []).append(name)
        return cls(by_name, {package: tuple(names) for package, names in packages.items()})

    def package_of(self, path: str) -> str | None:
        """Return the package that a file of the workspace is in; ``None`` when it is in none."""
        directory = path
        while directory:
            directory = directory.rpartition("/")[0]
            if directory in self.packages:
                return directory
        return None

    def label_of(self, path: str) -> str | None:
        """Return the label of a file; the target need not exist."""
        package = self.package_of(path)
        if package is None:
            return None
        return f"//{package}:{path[len(package) + 1 if package else 0 :]}"

    def dependents(self, ignored: Iterable[str]) -> dict[str, list[str]]:
        """Return who is made of what: label to the targets that have it as an input.

        Args:
            ignored: kinds of targets that are left out.
        """
        left_out = frozenset(ignored)
        found: dict[str, list[str]] = {}
        for node in self.nodes.values():
            for name in node.inputs if node.kind not in left_out else ():
                found.setdefault(name, []).append(node.name)
        return found


def read_nodes(lines: Iterable[str]) -> Iterator[Node]:
    """Return the targets from the lines of ``bazel query --consistent_labels --output=streamed_jsonproto``."""
    for line in lines:
        if line.strip():
            entry = json.loads(line)
            if reader := _READERS.get(entry["type"]):
                yield reader(entry)


def flow_of(label: str) -> str:
    """Return the label of the flow whose images ``label`` are."""
    return label.removesuffix(FLOW_SUFFIX)


def pushed_by(label: str) -> str:
    """Return the target that knows how the flow ``label`` is pushed (``rules/private/flow_command.bzl``)."""
    package, _, name = label.rpartition(":")
    return f"{package}:_{name}.push.arguments"


def _rule(entry: Mapping[str, Any]) -> Node:
    rule = entry["rule"]
    attributes = {item["name"]: item for item in rule.get("attribute", ())}
    tags = attributes.get("tags", {}).get("stringListValue", ())
    stands_for = attributes.get("toolchain", {}).get("stringValue") if rule["ruleClass"] == _TOOLCHAIN else None
    inputs = tuple(_short(name) for name in (*rule.get("ruleInput", ()), *([stands_for] if stands_for else [])))
    return Node(_short(rule["name"]), rule["ruleClass"], inputs, tags=tuple(tags))


def _source_file(entry: Mapping[str, Any]) -> Node:
    source = entry["sourceFile"]
    place = _text(source.get("location", "")).rsplit(":", 2)[0]
    return Node(_short(source["name"]), _SOURCE, file=Path(place) if place else None)


def _generated_file(entry: Mapping[str, Any]) -> Node:
    generated = entry["generatedFile"]
    return Node(_short(generated["name"]), _GENERATED, (_short(generated["generatingRule"]),))


_READERS = {"RULE": _rule, "SOURCE_FILE": _source_file, "GENERATED_FILE": _generated_file}


def _short(label: str) -> str:
    """Return a label of the main repository without the empty name."""
    label = _text(label)
    return label.removeprefix("@@") if label.startswith("@@//") else label


def _text(said: str) -> str:
    """Return what a query says, whose names that are not ASCII may be bytes of UTF-8, each as a character."""
    try:
        return said.encode("latin-1").decode()
    except UnicodeError:
        return said  # it is text already
