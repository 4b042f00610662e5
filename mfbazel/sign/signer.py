"""What a signer is, and finding one by name: entry points of the group ``mfbazel.signers``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Protocol, runtime_checkable

from mfbazel.sign.cosign import Cosign
from mfbazel.sign.errors import SignError
from mfbazel.sign.notation import Notation
from mfbazel.sign.options import check_references
from mfbazel.sign.target import Target

GROUP = "mfbazel.signers"
"""Group of the entry points; each names a :data:`SignerFactory`."""


@runtime_checkable
class Signer(Protocol):
    """Signs manifests in a registry, and tells whether one is signed.

    Several threads may use one. Signatures lie where the signer wants them; those that are referrers of the manifest go
    where the image goes.
    """

    def sign(self, target: Target) -> None:
        """Sign the manifest ``target``, which the registry has, and upload the signature.

        Raises:
            SignError: that is not possible; the message says why, and what to do.
        """

    def verify(self, target: Target) -> str:
        """Return who signed ``target``, for people, after a check that the options accept it.

        Raises:
            UnsignedError: it has no signature that the options accept.
            SignError: that cannot be told.
        """


SignerFactory = Callable[[Mapping[str, str], Path], Signer]
"""Makes a signer of its options and of the directory that relative paths in them mean.

Raises :class:`SignError` for options that it does not know, or that contradict each other. It asks for no password and
opens no key: it is also called where nothing needs to be signed.
"""

BUILT_IN: dict[str, SignerFactory] = {"cosign": Cosign, "notation": Notation}


@dataclass(frozen=True)
class Signing:
    """A signer as it was asked for.

    Attributes:
        name: of the signer.
        options: as they were given.
        signer: it.
    """

    name: str
    options: Mapping[str, str]
    signer: Signer


def load_signer(name: str, options: Mapping[str, str], directory: Path) -> Signing:
    """Return the signer ``name``.

    Args:
        options: the signer's own; no value may be a secret.
        directory: what relative paths in them mean.

    Raises:
        SignError: there is none of this name, its plug-in cannot be loaded, or it refuses an option.
    """
    plugins = {point.name: point for point in entry_points(group=GROUP)}
    check_references(name, options)
    if name in plugins:
        factory = _load(plugins[name])
    elif name in BUILT_IN:
        factory = BUILT_IN[name]
    else:
        known = ", ".join(sorted({*BUILT_IN, *plugins}))
        raise SignError(
            f"there is no signer {name!r}; there are {known}. One of your own is an entry point of the group {GROUP} "
            "in a package that the attribute `plugins` of metaflow_flow names, or that is installed; //:push_all finds "
            "it in the directories of PYTHONPATH."
        )
    signer = factory(options, directory)
    if not isinstance(signer, Signer):
        raise SignError(
            f"the signer {name!r} has no methods `sign` and `verify`: {type(signer).__name__} is no signer."
        )
    return Signing(name, options, signer)


def _load(point: EntryPoint) -> SignerFactory:
    try:
        factory: SignerFactory = point.load()
    except Exception as error:  # whatever a plug-in does when it is imported
        raise SignError(
            f"the signer {point.name!r} cannot be loaded: its entry point {point.value} ({point.group}) fails with "
            f"{type(error).__name__}: {error}. Correct the package that declares it."
        ) from error
    return factory
