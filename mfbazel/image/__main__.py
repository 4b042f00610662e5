"""Front of image assembly: ``python -m mfbazel.image COMMAND``; ``--help`` lists the commands."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mfbazel.image import listing
from mfbazel.image.assemble import Layer, Platform, assemble, assemble_index, load_layer, take_image
from mfbazel.image.debian import write_base
from mfbazel.image.errors import ImageError
from mfbazel.image.images_json import Derived, Names, build_images, to_json
from mfbazel.image.interpreter import check_interpreter
from mfbazel.image.layout import select_image, top_descriptor
from mfbazel.image.lock import read_lock
from mfbazel.image.metadata import Subject, created, image_annotations
from mfbazel.image.options import Options, parse_names, parse_pairs, parse_words
from mfbazel.image.tarball import write_tarball
from mfbazel.image.templates import Stamp, parse_status
from mfbazel.layer.blob import Outputs
from mfbazel.layer.compression import DEFAULT_LEVELS
from mfbazel.layer.output import write_together
from mfbazel.policy import check_base, read_rules, read_signing, refuse
from mfbazel.worker import run_worker_front

_LINKS = ("symlink", "hard", "copy")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the front; returns the exit code.

    Raises:
        MfbazelError: see the functions of the sub-commands.
    """
    sys.setswitchinterval(0.0005)
    options = _parser().parse_args(arguments)
    options.run(options)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m mfbazel.image",
        description="Assembles container images as OCI layouts.",
        epilog="@FILE reads arguments from FILE, one per line.",
        fromfile_prefix_chars="@",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _assemble_parser(commands.add_parser("assemble", help="one image", description=_assemble.__doc__))
    _index_parser(commands.add_parser("index", help="an index over images", description=_index.__doc__))
    _metadata_parser(commands.add_parser("metadata", help="annotations of an image", description=_metadata.__doc__))
    _images_parser(commands.add_parser("images-json", help="images.json of a flow", description=_images.__doc__))
    _tarball_parser(commands.add_parser("tarball", help="archive for a container engine", description=_tarball.__doc__))
    _debian_parser(commands.add_parser("debian", help="base layer from .deb files", description=_debian.__doc__))
    _base_parser(commands.add_parser("base", help="the image for a platform", description=_take_base.__doc__))
    _files_parser(commands.add_parser("files", help="the files of an image", description=_files.__doc__))
    _interpreter_parser(
        commands.add_parser("interpreter", help="does a base have it?", description=_interpreter.__doc__)
    )
    return parser


def _layout_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", required=True, type=Path, metavar="DIR", help="the OCI layout to write")
    parser.add_argument("--digest", type=Path, metavar="OUT", help="file that gets the digest, sha256:…")
    parser.add_argument("--link", choices=_LINKS, default="symlink", help="how blobs get in (default: relative links)")
    parser.add_argument("--annotations-file", type=Path, metavar="FILE", help="KEY=VALUE lines")
    parser.add_argument("--annotation", action="append", default=[], metavar="KEY=VALUE")


def _assemble_parser(parser: argparse.ArgumentParser) -> None:
    _layout_options(parser)
    parser.add_argument("--base", type=Path, metavar="DIR", help="OCI layout of the base image")
    parser.add_argument("--platform", metavar="OS/ARCH", help="which image of a base with several platforms")
    parser.add_argument("--os", help="without --base, for example linux")
    parser.add_argument("--architecture", help="without --base, for example amd64")
    parser.add_argument("--variant", help="without --base, for example v8")
    parser.add_argument(
        "--layer",
        action="append",
        default=[],
        metavar="BLOB=DESCRIPTOR[=HISTORY]",
        help="from the bottom to the top; HISTORY is its line in the image's history (default: `bazel build <file>`)",
    )
    for name in ("env", "labels"):
        parser.add_argument(f"--{name}-file", type=Path, metavar="FILE", help="KEY=VALUE lines")
    parser.add_argument("--env", action="append", default=[], metavar="KEY=VALUE", help="$VAR expands from the base")
    parser.add_argument("--label", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument(
        "--entrypoint-file", type=Path, metavar="FILE", help="one argument per line; clears the base's cmd"
    )
    parser.add_argument("--cmd-file", type=Path, metavar="FILE", help="one argument per line")
    parser.add_argument("--exposed-ports-file", type=Path, metavar="FILE", help="8080/tcp, …")
    parser.add_argument("--volumes-file", type=Path, metavar="FILE", help="paths")
    parser.add_argument("--created-file", type=Path, metavar="FILE", help="a time as in RFC 3339")
    parser.add_argument("--user")
    parser.add_argument("--workdir")
    parser.set_defaults(run=_assemble)


def _index_parser(parser: argparse.ArgumentParser) -> None:
    _layout_options(parser)
    parser.add_argument(
        "--image", required=True, nargs="+", action="extend", type=Path, metavar="DIR", help="OCI layouts"
    )
    parser.set_defaults(run=_index)


def _stamp_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--status",
        action="append",
        default=[],
        type=Path,
        metavar="FILE",
        help="workspace status file of Bazel; given, the build is stamped",
    )


def _policy_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--policy", type=Path, metavar="mfbazel.toml", help="what is allowed (default: everything)")


def _metadata_parser(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--lock", required=True, type=Path, metavar="flow.json")
    parser.add_argument("--environment", required=True, metavar="NAME", help="environment of the lock")
    parser.add_argument("--includes", action="append", default=[], metavar="NAME", help="environment below it, too")
    parser.add_argument("--label", required=True, metavar="//package:name", help="target of the flow or image")
    parser.add_argument("--step", action="append", default=[], metavar="STEP", help="that runs in the image")
    parser.add_argument("--base", type=Path, metavar="DIR", help="OCI layout of the base image; not for an index")
    parser.add_argument("--platform", metavar="OS/ARCH", help="not for an index")
    parser.add_argument("--annotation", action="append", default=[], metavar="KEY=TEMPLATE")
    _stamp_option(parser)
    parser.add_argument("--annotations-out", required=True, type=Path, metavar="OUT", help="KEY=VALUE lines")
    parser.add_argument("--created-out", required=True, type=Path, metavar="OUT", help="time as in RFC 3339")
    parser.set_defaults(run=_metadata)


def _images_parser(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--lock", required=True, type=Path, metavar="flow.json")
    parser.add_argument("--label", required=True, metavar="//package:name", help="the flow's target")
    parser.add_argument("--repository", metavar="TEMPLATE", help="where the images will be pushed")
    parser.add_argument("--tag", action="append", default=[], metavar="TEMPLATE", help="that they get there")
    _stamp_option(parser)
    parser.add_argument("--step", action="append", default=[], metavar="STEP=DIR", help="OCI layout of a step's image")
    parser.add_argument(
        "--includes",
        action="append",
        default=[],
        metavar="STEP=STEP,…",
        help="steps whose images its image derives from",
    )
    parser.add_argument("--foreign", action="append", default=[], metavar="STEP", help="its image is not of the lock")
    _policy_option(parser)
    parser.add_argument("--output", required=True, type=Path, metavar="images.json")
    parser.set_defaults(run=_images)


def _tarball_parser(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--layout", required=True, type=Path, metavar="DIR")
    parser.add_argument("--tag", action="append", default=[], metavar="NAME:TAG")
    parser.add_argument("--tags-file", type=Path, metavar="FILE", help="one NAME:TAG per line")
    parser.add_argument("--out", required=True, type=Path, metavar="OUT.tar")
    parser.add_argument("--format", choices=("docker", "oci"), default="docker")
    parser.add_argument("--platform", metavar="OS/ARCH", help="which image of a layout with several platforms")
    parser.set_defaults(run=_tarball)


def _debian_parser(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--debs", type=Path, metavar="DIR", help="every .deb file in it")
    parser.add_argument("--deb", action="append", default=[], type=Path, metavar="FILE.deb")
    parser.add_argument("--python", required=True, metavar="X.Y", help="version of the Python among the packages")
    parser.add_argument("--compression", choices=sorted(DEFAULT_LEVELS), default="zstd")
    parser.add_argument("--level", type=int, metavar="N", help="of the compression")
    parser.add_argument("--blob", required=True, type=Path, metavar="OUT.tar.zst")
    parser.add_argument("--descriptor", required=True, type=Path, metavar="OUT.json")
    parser.add_argument("--files", type=Path, metavar="OUT.tsv", help="file list")
    parser.add_argument("--packages", required=True, type=Path, metavar="OUT.json", help="names, versions, hashes")
    parser.set_defaults(run=_debian)


def _base_parser(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--base", required=True, type=Path, metavar="DIR", help="OCI layout")
    parser.add_argument("--label", metavar="LABEL", help="its target, for the message (default: the directory)")
    parser.add_argument("--platform", required=True, metavar="OS/ARCH", help="which image, where it has several")
    parser.add_argument("--output", required=True, type=Path, metavar="OUT", help="OCI layout of that image")
    _policy_option(parser)
    parser.set_defaults(run=_take_base)


def _files_parser(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--base", required=True, type=Path, metavar="DIR", help="OCI layout of one image")
    parser.add_argument("--output", required=True, type=Path, metavar="OUT.json")
    parser.set_defaults(run=_files)


def _interpreter_parser(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--files", required=True, type=Path, metavar="FILES.json", help="files of the base image")
    parser.add_argument("--interpreter", required=True, metavar="PATH", help="absolute path in the image")
    parser.add_argument("--image", required=True, metavar="LABEL", help="what is built on the base, for the message")
    parser.add_argument("--output", required=True, type=Path, metavar="OUT", help="gets the path after symlinks")
    parser.set_defaults(run=_interpreter)


def _assemble(options: argparse.Namespace) -> None:
    """Write an image from a base and layers. No layer is read: blobs are linked, documents written."""
    layers = [_layer(text) for text in options.layer]
    digest = assemble(
        options.output, _base(options), layers, _options(options), platform=options.platform, link=options.link
    )
    _write_digest(options, digest)


def _index(options: argparse.Namespace) -> None:
    """Write an index over images of several platforms."""
    annotations = dict(_pairs(options.annotations_file, options.annotation, "--annotation"))
    _write_digest(options, assemble_index(options.output, options.image, annotations, link=options.link))


def _metadata(options: argparse.Namespace) -> None:
    """Write what an image says about itself: annotations, and the time of creation."""
    base = select_image(options.base, options.platform).digest if options.base else None
    lock = read_lock(options.lock).environments_hash([options.environment, *options.includes])
    subject = Subject(options.label, options.step, lock, options.platform, base)
    stamp = _stamp(options)
    values = image_annotations(subject, dict(parse_pairs(options.annotation, "--annotation")), stamp)
    lines = "".join(f"{key}={value}\n" for key, value in values.items())
    # Without a newline: rules_oci would take it into the configuration.
    write_together({options.annotations_out: lines.encode(), options.created_out: created(stamp).encode()})


def _images(options: argparse.Namespace) -> None:
    """Write images.json of a build: step, digest, hash of its requirements."""
    layouts = {name: Path(path) for name, path in parse_pairs(options.step, "--step")}
    names = Names(options.repository, options.tag, _stamp(options))
    includes = {step: steps.split(",") for step, steps in parse_pairs(options.includes, "--includes")}
    derived = Derived(includes, options.foreign)
    rules, signing = read_rules(options.policy), read_signing(options.policy)
    document = build_images(read_lock(options.lock), options.label, names, layouts, derived, rules, signing)
    write_together({options.output: to_json(document)})


def _stamp(options: argparse.Namespace) -> Stamp:
    values: dict[str, str] = {}
    for file in options.status:
        values |= parse_status("\n".join(_lines(file)))
    return Stamp(values, bool(options.status))


def _tarball(options: argparse.Namespace) -> None:
    """Write an image as one archive that `podman load` or `docker load` reads."""
    tags = [*options.tag, *(line.strip() for line in _lines(options.tags_file) if line.strip())]
    write_tarball(options.layout, tags, options.out, options.format, options.platform)


def _debian(options: argparse.Namespace) -> None:
    """Write the base image's layer from Debian packages, without running their scripts: same packages, same bytes."""
    debs = [*options.deb, *(sorted(options.debs.glob("*.deb")) if options.debs else ())]
    if not debs:
        raise ImageError(f"no .deb file was given{f' in {options.debs}' if options.debs else ': use --debs or --deb'}")
    outputs = Outputs(options.blob, options.descriptor, options.files)
    write_base(debs, options.python, outputs, options.packages, compression=options.compression, level=options.level)


def _take_base(options: argparse.Namespace) -> None:
    """Take the image for a platform out of a layout that may have several. No layer is read."""
    rules, label = read_rules(options.policy), options.label or str(options.base)
    if rules.concern("bases"):
        digests = dict.fromkeys(
            [top_descriptor(options.base)["digest"], select_image(options.base, options.platform).digest]
        )
        refuse(rules, f"base image {label}", check_base(rules, label, digests))
    take_image(options.output, options.base, options.platform, options.label)


def _files(options: argparse.Namespace) -> None:
    """List the files of an image; reads its layers."""
    write_together({options.output: listing.to_json(listing.list_files(options.base))})


def _interpreter(options: argparse.Namespace) -> None:
    """Check that a base image has the interpreter that step images link to."""
    files = listing.read_listing(options.files)
    found = check_interpreter(files, options.interpreter, options.image)
    write_together({options.output: f"{found}\n".encode()})


def _layer(text: str) -> Layer:
    parts = text.split("=", 2)
    if len(parts) < 2:
        raise ImageError(f"--layer {text}: BLOB=DESCRIPTOR is expected, with the descriptor that the layer tool wrote")
    return load_layer(Path(parts[0]), Path(parts[1]), parts[2] if len(parts) > 2 else None)


def _base(options: argparse.Namespace) -> Path | Platform:
    given = [name for name in ("os", "architecture", "variant") if getattr(options, name)]
    if options.base:
        if given:
            raise ImageError(f"--{given[0]} comes from the base {options.base} and cannot be given beside it")
        return Path(options.base)
    if not options.os or not options.architecture:
        raise ImageError("without --base, both --os and --architecture are needed")
    return Platform(options.os, options.architecture, options.variant)


def _options(options: argparse.Namespace) -> Options:
    return Options(
        env=_pairs(options.env_file, options.env, "--env"),
        labels=dict(_pairs(options.labels_file, options.label, "--label")),
        annotations=dict(_pairs(options.annotations_file, options.annotation, "--annotation")),
        entrypoint=parse_words(_lines(options.entrypoint_file)) if options.entrypoint_file else None,
        cmd=parse_words(_lines(options.cmd_file)) if options.cmd_file else None,
        user=options.user,
        workdir=options.workdir,
        exposed_ports=parse_names(_lines(options.exposed_ports_file)),
        volumes=parse_names(_lines(options.volumes_file)),
        created="\n".join(_lines(options.created_file)) if options.created_file else None,
    )


def _pairs(file: Path | None, given: list[str], option: str) -> list[tuple[str, str]]:
    return parse_pairs(_lines(file), str(file)) + parse_pairs(given, option)


def _lines(file: Path | None) -> list[str]:
    if file is None:
        return []
    try:
        return file.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ImageError(f"cannot read {file}: {error}") from error


def _write_digest(options: argparse.Namespace, digest: str) -> None:
    if options.digest:
        write_together({options.digest: f"{digest}\n".encode()})


if __name__ == "__main__":
    run_worker_front(main)
