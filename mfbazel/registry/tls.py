"""Which certificates are trusted: the system's, those that requests brings or is told of, and docker's per registry."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from requests.adapters import HTTPAdapter
from requests.utils import DEFAULT_CA_BUNDLE_PATH

from mfbazel.registry.errors import Failure, Kind

_BLOCK = 1 << 18  # bytes of a body that are handed to the system at once; urllib3's 16 KiB cost throughput


class Adapter(HTTPAdapter):
    """An adapter of requests that sends bodies in large blocks."""

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        """See requests; adds the size of blocks."""
        super().init_poolmanager(*args, **options, blocksize=_BLOCK)

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        """See requests; adds the size of blocks."""
        return super().proxy_manager_for(proxy, **options, blocksize=_BLOCK)


class TrustingAdapter(Adapter):
    """An adapter of requests that trusts the system's certificates besides requests' own.

    crane and docker trust the system's (and ``SSL_CERT_FILE``), requests alone does not.
    """

    def __init__(self, host: str, **options: Any) -> None:
        """Trust what is right for ``host``."""
        self._context = _context(host)
        super().__init__(**options)

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        """See requests; adds the context."""
        super().init_poolmanager(*args, **options, ssl_context=self._context)

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        """See requests; adds the context."""
        return super().proxy_manager_for(proxy, **options, ssl_context=self._context)

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """See requests; its own bundle is in the context, and need not be read for each connection."""
        if verify is True and not cert:
            conn.cert_reqs = "CERT_REQUIRED"
            return
        super().cert_verify(conn, url, verify, cert)  # type: ignore[no-untyped-call]


def _context(host: str) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if Path(DEFAULT_CA_BUNDLE_PATH).is_file():
        context.load_verify_locations(DEFAULT_CA_BUNDLE_PATH)
    for file in _certs_d(host):
        try:
            if file.suffix == ".crt":
                context.load_verify_locations(file)
            elif file.suffix == ".cert" and (key := file.with_suffix(".key")).is_file():
                context.load_cert_chain(file, key)
        except (OSError, ssl.SSLError) as error:
            raise Failure(Kind.TLS, f"{file} cannot be used: {error.strerror or type(error).__name__}") from None
    return context


def _certs_d(host: str) -> Iterator[Path]:
    """Yield what docker and podman keep for a registry: ``*.crt`` of authorities, ``*.cert`` beside a ``*.key``."""
    home = os.environ.get("HOME", "")
    places = ["/etc/docker", "/etc/containers", *([f"{home}/.config/containers", f"{home}/.docker"] if home else [])]
    for place in places:
        try:
            yield from sorted(Path(place, "certs.d", host).glob("*.c*rt"))
        except OSError:
            continue
