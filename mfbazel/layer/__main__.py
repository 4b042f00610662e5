"""Front of layer making: ``python -m mfbazel.layer {wheels,venv,tar,clashes}``."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path

from mfbazel.layer.blob import Outputs, write_layer
from mfbazel.layer.compression import DEFAULT_LEVELS
from mfbazel.layer.errors import LayerError
from mfbazel.layer.filelist import check_clashes, to_tsv
from mfbazel.layer.install import Scheme, plan
from mfbazel.layer.output import reading, write_together
from mfbazel.layer.tar import Entry
from mfbazel.layer.venv import skeleton
from mfbazel.layer.wheel import Wheel
from mfbazel.wheel.limits import Limits, parse_limits
from mfbazel.worker import run_worker_front


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the front; returns the exit code.

    Raises:
        LayerError: see the functions of the sub-commands.
    """
    # Reader and writer share the interpreter: hand over more often than the 5 ms that Python waits by default.
    sys.setswitchinterval(0.0005)
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except LayerError as error:
        name = getattr(options, "name", None)
        if name:
            raise LayerError(f"layer {name}: {error}") from error
        raise
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m mfbazel.layer", description="Makes image layers.", fromfile_prefix_chars="@"
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    wheels = commands.add_parser("wheels", help="install wheels into one layer", description=_wheels.__doc__)
    wheels.add_argument("wheels", nargs="+", type=Path, metavar="WHEEL.whl")
    wheels.add_argument("--python", required=True, metavar="X.Y", help="version of the image's Python")
    wheels.add_argument(
        "--platform", metavar="OS/ARCH", help="refuse wheels that are not for it, for example linux/amd64"
    )
    wheels.add_argument(
        "--sha256", action="append", default=[], metavar="FILE.whl=HEX", help="refuse the wheel if its hash differs"
    )
    wheels.add_argument(
        "--direct-url",
        action="append",
        default=[],
        metavar="FILE.whl=JSON",
        help="where a wheel came from that no index has: its direct_url.json (PEP 610)",
    )
    wheels.add_argument(
        "--limits",
        type=_limits,
        default=Limits(),
        metavar="KEY=VALUE,…",
        help="how large a wheel may be: unpacked=64GB, ratio=500, files=500000, case_clashes=yes",
    )
    wheels.add_argument("--bytecode", action="store_true", help="install byte code too")
    wheels.add_argument(
        "--compiler",
        type=Path,
        metavar="PATH",
        help="interpreter for that, of version X.Y (default: the one of this tool)",
    )
    _output_options(wheels)
    wheels.set_defaults(run=_wheels)

    venv = commands.add_parser("venv", help="the virtual environment's skeleton", description=_venv.__doc__)
    venv.add_argument("--python", required=True, metavar="X.Y", help="version of the image's Python")
    venv.add_argument("--interpreter", required=True, metavar="PATH", help="its absolute path in the base image")
    venv.add_argument("--system-packages", action="store_true", help="let the base image's own packages be imported")
    _output_options(venv)
    venv.set_defaults(run=_venv)

    tar = commands.add_parser(
        "tar", help="describe an existing tar, or compress it into a layer", description=_tar.__doc__
    )
    tar.add_argument(
        "--blob-in", required=True, type=Path, metavar="FILE", help="plain, gzip or zstd; told by its content"
    )
    _output_options(tar, blob_required=False)
    tar.add_argument("--distribution", metavar="NAME", help="owner that the file list names (default: the file's name)")
    tar.set_defaults(run=_tar)

    clashes = commands.add_parser("clashes", help="check that layers agree", description=_clashes.__doc__)
    clashes.add_argument("lists", nargs="+", type=Path, metavar="FILES.tsv")
    clashes.add_argument("--image", metavar="NAME", help="name of the image, for the message")
    clashes.add_argument("--output", type=Path, metavar="OUT", help="write a line when all is well (for a build rule)")
    clashes.set_defaults(run=_clashes)
    return parser


def _output_options(parser: argparse.ArgumentParser, *, blob_required: bool = True) -> None:
    parser.add_argument("--name", metavar="NAME", help="name of the layer, for messages")
    parser.add_argument("--compression", choices=sorted(DEFAULT_LEVELS), default="zstd")
    parser.add_argument(
        "--level",
        type=int,
        metavar="N",
        help="of the compression (default: zstd 3; gzip copies what the wheels have, and 6 for the rest)",
    )
    parser.add_argument("--blob", required=blob_required, type=Path, metavar="OUT.tar.zst")
    parser.add_argument("--descriptor", required=True, type=Path, metavar="OUT.json")
    parser.add_argument("--files", type=Path, metavar="OUT.tsv", help="file list")


def _wheels(options: argparse.Namespace) -> None:
    """Install wheels into a layer; the order in which they are given does not matter."""
    scheme = Scheme(options.python)
    _check_hashes(options.wheels, options.sha256)
    with contextlib.ExitStack() as stack:
        wheels = [stack.enter_context(Wheel(path, options.limits)) for path in options.wheels]
        for wheel in wheels:
            wheel.check_python(options.python, options.platform)
        urls = _direct_urls(wheels, options.direct_url)
        bytecode = None
        if options.bytecode:
            from mfbazel.layer.bytecode import Bytecode  # its modules cost every other layer their import

            bytecode = stack.enter_context(Bytecode(options.python, options.compiler, options.blob.parent))
        _write(options, plan(wheels, scheme, direct_urls=urls, bytecode=bytecode))


def _venv(options: argparse.Namespace) -> None:
    """Write the layer that makes /opt/venv a virtual environment of the base image's interpreter."""
    _write(options, skeleton(options.python, options.interpreter, system_packages=options.system_packages))


def _write(options: argparse.Namespace, entries: list[Entry]) -> None:
    outputs = Outputs(options.blob, options.descriptor, options.files)
    write_layer(entries, outputs, compression=options.compression, level=options.level)


def _tar(options: argparse.Namespace) -> None:
    """Write the descriptor, and on demand the file list, of a tar that something else made; with --blob, compress it
    into a layer. Reads it once."""
    from mfbazel.layer.existing import describe, repack  # needs modules that making layers does not

    owner = options.distribution or options.blob_in.name
    if options.blob:
        outputs = Outputs(options.blob, options.descriptor, options.files)
        repack(options.blob_in, outputs, owner, compression=options.compression, level=options.level)
        return
    descriptor, files = describe(options.blob_in, owner if options.files else None)
    contents = {options.descriptor: descriptor.to_json()}
    if options.files:
        contents[options.files] = to_tsv(files)
    write_together(contents)


def _clashes(options: argparse.Namespace) -> None:
    """Check that no two layers of an image hold one path with different content."""
    count = check_clashes(options.lists, options.image)
    if options.output:
        write_together({options.output: f"{count} files, no clash\n".encode()})


def _limits(text: str) -> Limits:
    try:
        return parse_limits(text)
    except ValueError as error:
        raise LayerError(str(error)) from error


def _by_wheel(wheels: list[Path], option: str, value: str, given: list[str]) -> dict[str, str]:
    """Return file name → value of a repeated option ``FILE.whl=VALUE``."""
    result = {}
    for item in given:
        name, separator, rest = item.partition(".whl=")
        if not separator or f"{name}.whl" not in {wheel.name for wheel in wheels}:
            raise LayerError(f"{option} {item}: FILE.whl={value} is expected, with the file name of one of the wheels")
        result[f"{name}.whl"] = rest
    return result


def _direct_urls(wheels: list[Wheel], given: list[str]) -> dict[Wheel, bytes]:
    if not given:
        return {}
    from mfbazel.layer.direct_url import direct_url  # as for byte code

    texts = _by_wheel([wheel.path for wheel in wheels], "--direct-url", "JSON", given)
    return {wheel: direct_url(wheel.path.name, texts[wheel.path.name]) for wheel in wheels if wheel.path.name in texts}


def _check_hashes(wheels: list[Path], given: list[str]) -> None:
    expected = _by_wheel(wheels, "--sha256", "HEX", given)
    for wheel in wheels:
        if wheel.name in expected:
            with reading(wheel) as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
            if found != expected[wheel.name].lower():
                raise LayerError(
                    f"{wheel}: its sha256 is {found}, expected {expected[wheel.name]}. Download the wheel again."
                )


def _warm() -> None:
    """Import what some layers need only, for a worker that makes many."""
    from mfbazel.layer import bytecode, direct_url, existing

    assert bytecode and direct_url and existing


if __name__ == "__main__":
    # A process per layer: its memory is bounded, and stays so whatever a worker made before.
    run_worker_front(main, warm=_warm)
