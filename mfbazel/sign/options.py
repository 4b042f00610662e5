"""Options of signers: text by name, from an attribute or a command line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mfbazel.sign.errors import SignError

_PEM = "-----BEGIN"


class Options:
    """The options of a signer, of which each has a known name."""

    def __init__(self, signer: str, given: Mapping[str, str], known: Mapping[str, str], directory: Path) -> None:
        """Check the names.

        Args:
            signer: its name, for messages.
            given: the options.
            known: what there is, with a few words on each.
            directory: what relative paths mean.

        Raises:
            SignError: a name is unknown.
        """
        self._signer = signer
        self._given = {name: value for name, value in given.items() if value}
        self._directory = directory
        if unknown := sorted(given.keys() - known.keys()):
            raise SignError(
                f"the signer {signer} has no option {', '.join(map(repr, unknown))}; it has:\n"
                + "\n".join(f"  {name}: {words}" for name, words in known.items())
            )

    def text(self, name: str) -> str:
        """Return the value, empty when it is not given."""
        return self._given.get(name, "")

    def any(self, *names: str) -> bool:
        """Whether one of the options is given."""
        return any(name in self._given for name in names)

    def flag(self, name: str, default: bool) -> bool:
        """Return whether an option is ``true``.

        Raises:
            SignError: it is neither ``true`` nor ``false``.
        """
        value = self.text(name) or str(default).lower()
        if value not in ("true", "false"):
            raise SignError(f"the option {name} of the signer {self._signer} is {value!r}: write true or false.")
        return value == "true"

    def path(self, name: str) -> str:
        """Return the path of a file, absolute; empty when it is not given."""
        value = self.text(name)
        return str(self._directory / Path(value).expanduser()) if value else ""

    def program(self) -> str:
        """Return the option ``program``: a name to look for on ``PATH``, or a path, absolute; empty if not given."""
        value = self.text("program")
        return self.path("program") if "/" in value else value

    def reference(self, name: str) -> str:
        """Return what names a key: an address (``env://…``, ``awskms://…``) as it is, else a path, absolute."""
        value = self.text(name)
        return value if "://" in value else self.path(name)


def check_references(signer: str, options: Mapping[str, str]) -> None:
    """Refuse an option that holds a key where it should name one; the message does not repeat it.

    Raises:
        SignError: one does.
    """
    for name, value in options.items():
        if _PEM in value:
            raise SignError(
                f"the option {name} of the signer {signer} holds a key: options are no secrets, they are checked in "
                "and printed. Name the key instead: a file, env://VARIABLE, or the address of a key service."
            )
