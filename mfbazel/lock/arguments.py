"""The options of the command lines, and the objects that they mean."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name

from mfbazel.analyze.arguments import READ_ATTRIBUTES, add_read_arguments, pair, read_arguments
from mfbazel.lock.flow import DEFAULT_METAFLOW, INFER, FlowOptions
from mfbazel.lock.model import RESOLVERS, FirstPartyWheel, Policy, Settings, parse_wanted
from mfbazel.lock.origin import FILE, LABEL
from mfbazel.lock.policy import read_policy
from mfbazel.lock.resolve import resolve_platforms
from mfbazel.lock.runtime import DEFAULT_DATASTORES
from mfbazel.lock.sources.first_party import check_names, read_first_party
from mfbazel.plan import BUDGET, MOST_LAYERS, check_budget

FLOW_ATTRIBUTES = frozenset(
    [
        *READ_ATTRIBUTES,
        "lock_dir",
        "label",
        "policy",
        "platform",
        "glibc",
        "resolver",
        "budget",
        "metaflow",
        "launcher",
        "datastore",
        "runtime",
        "infer",
        "imports",
        "build",
        "wheel",
        "wheel_target",
    ]
)
"""The options that ``metaflow_flow`` fills in."""

_DEFAULT_PLATFORMS = ("linux/amd64",)
_DEFAULT_GLIBC = "2.28"


def add_common_options(parser: argparse.ArgumentParser) -> None:
    """Add what every subcommand takes."""
    parser.add_argument("--lock-dir", required=True, type=Path, metavar="DIR", help="the lock directory")
    parser.add_argument("--label", required=True, metavar="//PKG:NAME", help="the target without `.lock`")
    parser.add_argument("--policy", type=Path, metavar="mfbazel.toml", help="what all flows of the repository share")
    platforms = ", ".join(_DEFAULT_PLATFORMS)
    parser.add_argument("--platform", action="append", metavar="OS/ARCH", help=f"repeatable (default: {platforms})")
    parser.add_argument("--glibc", metavar="2.Y", help=f"oldest C library of the images (default: {_DEFAULT_GLIBC})")
    parser.add_argument("--resolver", choices=RESOLVERS, help=f"default: {RESOLVERS[0]}")
    parser.add_argument(
        "--budget",
        type=int,
        metavar="N",
        help=f"layers of packages per image, at most; 1 to {MOST_LAYERS} (default: {BUDGET})",
    )
    parser.add_argument(
        "--build",
        action="append",
        default=[],
        metavar="NAME",
        help="build this distribution from source, which runs code of it; repeatable",
    )
    for option, what in (("--wheel", "a checked-in wheel"), ("--wheel-target", "a wheel that a target makes")):
        parser.add_argument(
            option, action="append", default=[], type=pair, metavar="LABEL=FILE", help=f"{what}; repeatable"
        )


def add_flow_options(parser: argparse.ArgumentParser) -> None:
    """Add what the subcommands about a flow take."""
    add_read_arguments(parser)
    parser.add_argument("--metaflow", default=DEFAULT_METAFLOW, metavar="REQ", help="what the launcher installs")
    parser.add_argument(
        "--launcher", action="append", default=[], metavar="REQ", help="what launching needs besides; repeatable"
    )
    parser.add_argument(
        "--datastore",
        action="append",
        metavar="NAME",
        help="where steps keep their data: s3, azure, gs or local; decides what Metaflow itself needs in images; "
        f"repeatable (default: {', '.join(DEFAULT_DATASTORES)})",
    )
    parser.add_argument(
        "--runtime", action="append", metavar="REQ", help="what Metaflow needs in images, instead; repeatable"
    )
    parser.add_argument(
        "--infer",
        choices=INFER,
        default="check",
        help="what becomes of imported packages that nobody declares: nothing, an error of `imports` (default: check), "
        "or a requirement of the lock",
    )
    parser.add_argument(
        "--import",
        dest="imports",
        action="append",
        default=[],
        type=pair,
        metavar="NAME=DIST",
        help="distribution of an import name, empty for what the image has anyway; repeatable",
    )


def add_resolve_options(parser: argparse.ArgumentParser) -> None:
    """Add what the subcommands that resolve take."""
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if anything would change")
    parser.add_argument("--diff", action="store_true", help="write nothing; say what would change, package by package")
    parser.add_argument("--upgrade", action="store_true", help="do not prefer the locked versions")
    parser.add_argument(
        "--upgrade-package",
        action="append",
        default=[],
        metavar="REQ",
        help="do not prefer the locked version of this package; with a version (`pandas<3.2`) within that; repeatable",
    )
    parser.add_argument(
        "--step", action="append", default=[], metavar="NAME", help="resolve only this step; repeatable"
    )


def in_workspace(path: Path) -> Path:
    """Resolve a relative ``path`` against the workspace when ``bazel run`` started this."""
    return Path(os.environ.get("BUILD_WORKSPACE_DIRECTORY", ".")) / path


def declared_file(path: Path) -> Path:
    """Return where the file lies that a rule calls ``path`` in the execution root: there, or among the runfiles."""
    parts = path.parts
    if path.exists() or not parts:
        return path
    if parts[0] == "bazel-out":
        path = Path(*parts[3:])
    if path.parts[0] == "external":
        path = Path("..", *path.parts[1:])
    return path


def settings_of(arguments: argparse.Namespace, defaults: Mapping[str, Any]) -> Settings:
    """Return how to resolve: what ``arguments`` say, else ``defaults``, else the policy's defaults.

    Raises:
        mfbazel.lock.errors.LockError: the policy cannot be read, or a platform is unknown.
        mfbazel.plan.PlanError: the budget is out of range.
    """
    policy = _policy(arguments)
    upgraded = [parse_wanted(text, "--upgrade-package") for text in getattr(arguments, "upgrade_package", ())]
    values = {**policy.defaults, **defaults}
    platforms = arguments.platform or values.get("platforms") or _DEFAULT_PLATFORMS
    return Settings(
        label=arguments.label,
        platforms=resolve_platforms(platforms),
        glibc=arguments.glibc or str(values.get("glibc", _DEFAULT_GLIBC)),
        resolver=arguments.resolver or str(values.get("resolver", RESOLVERS[0])),
        budget=check_budget(values.get("budget", BUDGET) if arguments.budget is None else arguments.budget),
        policy=policy,
        upgrade=getattr(arguments, "upgrade", False),
        upgrade_packages=tuple(wanted.name for wanted in upgraded),
        limits=tuple(wanted for wanted in upgraded if wanted.text != wanted.name),
        only=tuple(getattr(arguments, "step", ())),
        wheels=check_names(_wheels(arguments)),
    )


def _wheels(arguments: argparse.Namespace) -> Iterator[FirstPartyWheel]:
    for kind, pairs in ((FILE, arguments.wheel), (LABEL, arguments.wheel_target)):
        for label, path in pairs:
            yield read_first_party(label, kind, declared_file(Path(path)))


def _policy(arguments: argparse.Namespace) -> Policy:
    policy = read_policy(declared_file(arguments.policy) if arguments.policy else None)
    build = {*policy.build, *map(canonicalize_name, getattr(arguments, "build", ()))}
    return replace(policy, build=tuple(sorted(build)))


def flow_of(arguments: argparse.Namespace) -> FlowOptions:
    """Return the options of a flow's lock that ``arguments`` name."""
    flow, first_party, reading = read_arguments(arguments)
    return FlowOptions(
        flow=flow,
        first_party=first_party,
        reading=reading,
        metaflow=arguments.metaflow,
        launcher=arguments.launcher,
        runtime=None if arguments.runtime is None else tuple(arguments.runtime),
        datastores=tuple(arguments.datastore or DEFAULT_DATASTORES),
        infer=arguments.infer,
        imports=dict(arguments.imports),
    )
