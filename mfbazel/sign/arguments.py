"""Options of a command line that name a signer."""

from __future__ import annotations

import argparse
from pathlib import Path

from mfbazel.sign.errors import SignError
from mfbazel.sign.signer import Signing, load_signer


def add_signer(parser: argparse.ArgumentParser, what: str) -> None:
    """Add ``--sign``, ``--sign-option`` and ``--no-sign`` to ``parser``; ``what`` the signer is for."""
    parser.add_argument("--sign", metavar="NAME", help=f"{what}: cosign, notation, or a plug-in's name")
    parser.add_argument(
        "--sign-option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an option of the signer; no secret; repeat",
    )
    parser.add_argument("--no-sign", action="store_true", help="without a signer, whatever the flow's attributes say")


def signer_options(options: argparse.Namespace) -> dict[str, str]:
    """Return the options of the signer; the last value of each counts.

    Raises:
        SignError: they are not NAME=VALUE, or of no signer.
    """
    given: dict[str, str] = {}
    for entry in options.sign_option:
        name, equals, value = entry.partition("=")
        if not (name and equals):
            raise SignError("--sign-option takes NAME=VALUE, and was given something without '='.")
        given[name] = value
    if given and not options.sign:
        raise SignError(f"--sign-option {', '.join(given)}: of which signer? Name it with --sign.")
    return given


def signing_of(options: argparse.Namespace, directory: Path) -> Signing | None:
    """Return the signer that the options name, ``None`` where they name none.

    Args:
        options: parsed by a parser with :func:`add_signer`.
        directory: what relative paths in options mean.

    Raises:
        SignError: see :func:`signer_options` and :func:`mfbazel.sign.load_signer`.
    """
    if options.no_sign:
        return None
    given = signer_options(options)
    return load_signer(options.sign, given, directory) if options.sign else None
