"""Asks uv and pip-tools for the same requirement sets, and lists where they choose other versions, and why.

The sets: those of the steps of the examples' locks, and combinations of packages that teams use. Both resolvers are
asked as a lock asks them, for the Python and the platform that run this (pip-tools knows no other), wheels only, on the
user's own indexes. A difference is explained when the reason has been checked with the resolvers themselves, for
instance that each accepts the other's versions as a solution, too.

pip-compile takes up to minutes for a set. Results are printed as they come; with `--results FILE` they are kept, and a
run that was interrupted goes on after the last one. Exits with 1 when a difference is not explained.

    bazel run //bench:lock_agreement -- --results /tmp/agreement.json
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mfbazel.lock.errors import LockError
from mfbazel.lock.model import UV_GLIBCS, Platform
from mfbazel.lock.resolver.piptools import PipTools
from mfbazel.lock.resolver.request import Request, ResolverFailure
from mfbazel.lock.resolver.uv import Uv
from tests.lock.agreement import Answer, Comparison, compare

SETS = {
    "numpy, pandas": ["numpy", "pandas"],
    "scikit-learn": ["scikit-learn", "scipy", "joblib"],
    "torch": ["torch"],
    "torch for the CPU": ["torch==2.13.0+cpu"],
    "transformers": ["transformers", "datasets", "tokenizers"],
    "xgboost": ["xgboost", "scikit-learn"],
    "lightgbm": ["lightgbm", "optuna"],
    "pyarrow": ["pyarrow", "duckdb"],
    "polars": ["polars", "deltalake"],
    "fastapi": ["fastapi[standard]", "httpx"],
    "sqlalchemy": ["sqlalchemy", "alembic", "psycopg[binary]"],
    "spacy": ["spacy"],
    "jax": ["jax", "flax", "optax"],
    "opencv": ["opencv-python-headless", "pillow", "scikit-image"],
    "ray": ["ray[default]"],
    "mlflow": ["mlflow"],
    "dask": ["dask[complete]"],
    "statsmodels": ["statsmodels", "seaborn"],
    "matplotlib": ["matplotlib", "plotly"],
    "boto3": ["boto3", "s3fs"],
    "google": ["google-cloud-storage", "google-cloud-bigquery"],
    "azure": ["azure-storage-blob", "azure-identity", "adlfs"],
    "metaflow": ["metaflow", "kubernetes"],
    "catboost": ["catboost"],
    "old pins": ["requests<2.32", "urllib3<2", "pydantic<2.12"],
}
"""Requirement sets by name."""

_MACHINES = {"x86_64": "linux/amd64", "aarch64": "linux/arm64"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare every set; return 1 when a difference is not explained, or a resolver cannot be asked, else 0."""
    options = _parser().parse_args(arguments)
    sets = {**dict(_of_locks(options.lock)), **SETS}
    unknown = sorted(set(options.set) - set(sets))
    if unknown:
        print(f"error: --set {unknown[0]}: there are {'; '.join(sets)}", file=sys.stderr)
        return 2
    chosen = {name: texts for name, texts in sets.items() if not options.set or name in options.set}
    kept = _read(options.results)
    print(f"{len(chosen)} requirement sets for Python {_python()}, glibc {_glibc()}", flush=True)
    results = {}
    for name, texts in chosen.items():
        key = f"{_python()}: {', '.join(texts)}"
        try:
            results[name] = kept[key] if key in kept else _compare(texts)
        except (LockError, ResolverFailure) as error:
            print(f"error: {name}: {error}", file=sys.stderr)
            return 1
        kept[key] = results[name]
        _write(options.results, kept)
        _show(name, texts, results[name])
    return _sum_up(results)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bench/lock_agreement.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--set", action="append", default=[], metavar="NAME", help="only this set; repeatable")
    parser.add_argument(
        "--lock", action="append", default=[], type=Path, metavar="DIR", help="take its environments; repeatable"
    )
    parser.add_argument("--results", type=Path, metavar="FILE", help="keep results there, and those that it has")
    return parser


def _of_locks(locks: Sequence[Path]) -> Iterator[tuple[str, list[str]]]:
    """Yield the different requirement sets of lock directories, under the name of the first environment."""
    seen = set()
    for lock in locks:
        environments: Mapping[str, Any] = json.loads((lock / "flow.json").read_bytes())["environments"]
        for name, environment in sorted(environments.items()):
            texts = sorted({*environment["requirements"], *environment.get("runtime", [])})
            if texts and environment["python"] == _python() and tuple(texts) not in seen:
                seen.add(tuple(texts))
                yield f"{lock.name}: {name}", texts


def _compare(texts: Sequence[str]) -> dict[str, Any]:
    here = Platform.parse(_MACHINES[platform.machine()])
    begin = time.monotonic()
    found = compare(Request(_python(), here, _glibc(), tuple(texts)), Uv(say=_quiet), PipTools())
    return {**asdict(found), "seconds": round(time.monotonic() - begin)}


def _quiet(_line: str) -> None:
    """Leave out what uv says of indexes: it is the same for every set."""


def _python() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def _glibc() -> str:
    """Return the glibc of this machine, or the newest below it that uv knows: pip takes what runs here."""
    own = _numbers(platform.libc_ver()[1])
    return max((version for version in UV_GLIBCS if _numbers(version) <= own), key=_numbers, default=UV_GLIBCS[-1])


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def _read(path: Path | None) -> dict[str, Any]:
    table: dict[str, Any] = json.loads(path.read_bytes()) if path and path.is_file() else {}
    return table


def _write(path: Path | None, results: Mapping[str, Any]) -> None:
    if path:
        beside = path.with_name(f".{path.name}.new")
        beside.write_text(json.dumps(results, indent=1), encoding="utf-8")
        beside.replace(path)


def _comparison(result: Mapping[str, Any]) -> Comparison:
    return Comparison(Answer(**result["uv"]), Answer(**result["pip"]), result["explanation"])


def _show(name: str, texts: Sequence[str], result: Mapping[str, Any]) -> None:
    found = _comparison(result)
    title = f"{name} ({', '.join(texts)}; {result['seconds']} s)"
    if found.equal and found.uv.versions is not None:
        print(f"equal      {title}: {len(found.uv.versions)} pins", flush=True)
        return
    if found.equal:
        print(f"neither    {title}: no solution for either", flush=True)
        return
    print(f"{'differs' if found.explanation else 'UNEXPLAINED'}    {title}")
    for who, answer in (("uv", found.uv), ("pip-tools", found.pip)):
        if answer.versions is None:
            print(f"           {who} has no solution: {answer.failure}")
    for line in found.differences if found.uv.versions and found.pip.versions else []:
        print(f"           {line}")
    print(f"           {found.explanation or 'the reason is not known'}", flush=True)


def _sum_up(results: Mapping[str, Mapping[str, Any]]) -> int:
    found = [_comparison(result) for result in results.values()]
    solved = [item for item in found if item.equal and item.uv.versions is not None]
    explained = [item for item in found if not item.equal and item.explanation]
    neither = [item for item in found if item.equal and item.uv.versions is None]
    rest = len(found) - len(solved) - len(explained) - len(neither)
    pins = sum(len(item.uv.versions or ()) for item in solved)
    print(
        f"{len(found)} sets: {len(solved)} with equal pins ({pins} of them), {len(explained)} with explained "
        f"differences, {len(neither)} without a solution for either, {rest} with unexplained differences"
    )
    return 1 if rest else 0


if __name__ == "__main__":
    sys.exit(main())
