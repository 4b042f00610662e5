"""Asking Bazel for the flows of a workspace, for what targets are made of, and for the images."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from mfbazel.inner_bazel import (
    QUIET,
    SOME_PACKAGES_FAILED,
    TARGETS_FAILED,
    InnerBazel,
    built_files,
    kinds_in,
    names_many,
    of_flow,
    quoted,
    tail,
)
from mfbazel.push.all_graph import (
    ATTRIBUTES,
    FLOW_RULE,
    FLOW_SUFFIX,
    MISSING_RULE,
    Graph,
    Node,
    flow_of,
    pushed_by,
    read_nodes,
)
from mfbazel.push.errors import PushError

OUTPUT_GROUP = "push"
"""The output group with :data:`DELIVERY` and everything that a push of the flow reads."""
DELIVERY = "push.json"
"""The file that says what of a flow is pushed, and how; paths in it are those in the execution root."""

_SPEC_RULE = "flow_spec"
_SPEC_SUFFIX = ".spec"
_LAST_PARTS = (FLOW_SUFFIX, ".push")
_GRAPH = ("--keep_going", "--order_output=no", "--consistent_labels", "--output=streamed_jsonproto")
_NO_ATTRIBUTES_BUT = f"--proto:output_rule_attrs={ATTRIBUTES}"


@dataclass(frozen=True)
class BuiltFlow:
    """What the build made of a flow.

    Attributes:
        label: of the flow.
        images: the build's ``images.json``.
        layouts: by step.
        attach: documents about the images.
        sign: the name of the signer, ``None`` for none.
        sign_options: of the signer.
    """

    label: str
    images: Path
    layouts: Mapping[str, Path]
    attach: Sequence[Path] = ()
    sign: str | None = None
    sign_options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Flows:
    """The flows that patterns name.

    Attributes:
        labels: those that have images, sorted.
        unlocked: those that have no lock, or one that cannot be read.
        problems: what could not be loaded, in words.
    """

    labels: Sequence[str]
    unlocked: Sequence[str] = ()
    problems: Sequence[str] = field(default=())


class PushBazel(InnerBazel):
    """Bazel, asked for flows and their images."""

    error = PushError
    target = "//:push_all"

    def find_flows(self, patterns: Sequence[str], excluded: Sequence[str] = ()) -> Flows:
        """Return the flows that ``patterns`` name and ``excluded`` do not.

        As for Bazel itself, ``//...`` and the like mean no flow that is tagged ``manual``; its name does.

        Raises:
            PushError: Bazel cannot answer, or there is no such flow.
        """
        many = [images_pattern(pattern) for pattern in patterns if names_many(pattern)]
        single = [images_pattern(pattern) for pattern in patterns if not names_many(pattern)]
        without = [images_pattern(pattern) for pattern in excluded]
        found, problems = (
            self._nodes(kinds_in(many, FLOW_RULE, MISSING_RULE, _SPEC_RULE), without) if many else ([], [])
        )
        named, more = self._nodes(kinds_in(single, FLOW_RULE, MISSING_RULE), without) if single else ([], [])
        nodes = [*_not_manual(found), *named]
        labels = sorted({flow_of(node.name) for node in nodes if node.kind == FLOW_RULE})
        unlocked = sorted({flow_of(node.name) for node in nodes if node.kind == MISSING_RULE})
        if not (labels or unlocked):
            raise PushError("\n".join([*problems, *more, f"there is no flow in {', '.join(patterns)}"]))
        return Flows(labels, unlocked, [*problems, *more])

    def graph(self) -> tuple[Graph, list[str]]:
        """Return the targets of the whole workspace, and what could not be loaded.

        Raises:
            PushError: Bazel cannot answer.
        """
        nodes, problems = self._nodes(quoted("//...:*"), ())
        return Graph.of(nodes), problems

    def build(self, labels: Sequence[str], options: Sequence[str], *, keep_going: bool) -> dict[str, BuiltFlow]:
        """Build the images of flows, while the person sees Bazel's progress; return those that were built, by label.

        Args:
            labels: of the flows.
            options: further options of ``bazel build``.
            keep_going: whether to build the others after one fails.

        Raises:
            PushError: Bazel does not build at all.
        """
        with tempfile.TemporaryDirectory() as scratch:
            targets, events = Path(scratch, "targets.txt"), Path(scratch, "events.json")
            targets.write_text("".join(f"{pushed_by(label)}\n" for label in labels), encoding="utf-8")
            done = self.run(
                "build",
                *(["--keep_going"] if keep_going else []),
                f"--output_groups={OUTPUT_GROUP}",
                f"--target_pattern_file={targets}",
                f"--build_event_json_file={events}",
                "--build_event_json_file_path_conversion",
                "--remote_download_outputs=toplevel",
                "--show_result=0",
                *options,
                shown=True,
            )
            if done.returncode not in (0, TARGETS_FAILED) or not events.exists():
                raise PushError(f"Bazel could not build the images (exit code {done.returncode}); it says why above.")
            return {flow.label: flow for flow in read_built(events.read_text(encoding="utf-8").splitlines())}

    def _nodes(self, expression: str, excluded: Sequence[str]) -> tuple[list[Node], list[str]]:
        """Return the targets of a query, and what could not be loaded."""
        if excluded:
            expression = f"({expression}) except ({' + '.join(map(quoted, excluded))})"
        done = self.run("query", *_GRAPH, _NO_ATTRIBUTES_BUT, *QUIET, expression)
        if done.returncode not in (0, SOME_PACKAGES_FAILED):
            raise PushError(f"Bazel cannot find the flows (`bazel query`):\n{tail(done.stderr)}")
        problems = [f"Bazel cannot look at everything:\n{tail(done.stderr)}"] if done.returncode else []
        return list(read_nodes(done.stdout.splitlines())), problems


def images_pattern(pattern: str) -> str:
    """Return the target pattern for the images of the flows that ``pattern`` names; a flow's name means the flow."""

    def rename(name: str) -> str:
        for suffix in _LAST_PARTS:
            name = name.removesuffix(suffix)
        return f"{name}{FLOW_SUFFIX}"

    return of_flow(pattern, rename)


def read_built(lines: Iterable[str]) -> Iterator[BuiltFlow]:
    """Return the flows of which Bazel built everything, from the lines of its build events (JSON).

    Raises:
        PushError: what was built is not on this machine.
    """
    for _, files in built_files(lines, OUTPUT_GROUP):
        yield from (_built(file) for file in files if PurePosixPath(file["name"]).name == DELIVERY)


def _built(file: Mapping[str, Any]) -> BuiltFlow:
    """Read the file that says where the images of a flow are."""
    parts = urlsplit(file.get("uri", ""))
    if parts.scheme != "file":
        raise PushError(f"Bazel built {file['name']}, but left it at {file.get('uri')}: it is needed here.")
    path = Path(unquote(parts.path))
    depth = len(file.get("pathPrefix", ())) + len(PurePosixPath(file["name"]).parts)
    root = path.parents[depth - 1]
    content = json.loads(path.read_bytes())
    layouts = {step: root / place for step, place in content["layouts"]}
    attach = [root / place for place in content["attach"]]
    images = root / content["images"]
    return BuiltFlow(content["label"], images, layouts, attach, content["sign"], content["sign_options"])


def _not_manual(nodes: Sequence[Node]) -> list[Node]:
    """Leave out flows that people tagged ``manual``; what stands in for one without a lock has that tag anyway."""
    manual = {node.name.removesuffix(_SPEC_SUFFIX) for node in nodes if node.kind == _SPEC_RULE and _is_manual(node)}
    return [
        node
        for node in nodes
        if (node.kind == FLOW_RULE and not _is_manual(node))
        or (node.kind == MISSING_RULE and node.name.endswith(FLOW_SUFFIX) and flow_of(node.name) not in manual)
    ]


def _is_manual(node: Node) -> bool:
    return "manual" in node.tags
