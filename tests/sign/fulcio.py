"""A certificate authority as Sigstore's Fulcio is, for keyless signatures in tests: version 2 of its HTTP API."""

from __future__ import annotations

import base64
import json
import ssl
import subprocess
import threading
import time
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

ISSUER_RAW = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.1")
ISSUER = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.8")
AUDIENCE = "sigstore"
_P256_BYTES = 32


class Issuer:
    """An OpenID Connect issuer that gives ID tokens (RFC 7519, ES256); ``url`` is its name."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._key = ec.generate_private_key(ec.SECP256R1())

    def token(self, email: str, **claims: Any) -> str:
        """Return a token of ``email``, with other ``claims``."""
        now = int(time.time())
        content = {"iss": self.url, "aud": AUDIENCE, "sub": email, "email": email, "email_verified": True}
        content |= {"iat": now, "exp": now + 600, **claims}
        signed = f"{_segment(_json({'alg': 'ES256', 'typ': 'JWT'}))}.{_segment(_json(content))}"
        r, s = decode_dss_signature(self._key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
        signature = r.to_bytes(_P256_BYTES, "big") + s.to_bytes(_P256_BYTES, "big")
        return f"{signed}.{_segment(signature)}"

    def claims(self, token: str) -> dict[str, Any]:
        """Return the claims of a token of this issuer that is valid now.

        Raises:
            ValueError: it is none.
            cryptography.exceptions.InvalidSignature: another issuer, or nobody, signed it.
        """
        signed, _, signature = token.rpartition(".")
        raw = _bytes(signature)
        pair = int.from_bytes(raw[:_P256_BYTES], "big"), int.from_bytes(raw[_P256_BYTES:], "big")
        self._key.public_key().verify(encode_dss_signature(*pair), signed.encode(), ec.ECDSA(hashes.SHA256()))
        claims: dict[str, Any] = json.loads(_bytes(signed.partition(".")[2]))
        if claims["iss"] != self.url or claims["aud"] != AUDIENCE or claims["exp"] < time.time():
            raise ValueError("the token is of another issuer, for someone else, or has expired")
        return claims


class Authority:
    """A root certificate, and the certificates that it gives."""

    def __init__(self, name: str) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = _builder(self.name, self.name, self.key.public_key(), timedelta(days=1))
        usage = _usage(key_cert_sign=True, crl_sign=True)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=1), critical=True)
        self.root = builder.add_extension(usage, critical=True).sign(self.key, hashes.SHA256())

    @property
    def pem(self) -> str:
        """The root certificate."""
        return self.root.public_bytes(serialization.Encoding.PEM).decode()

    def certify(self, key: CertificatePublicKeyTypes, email: str, issuer: str) -> str:
        """Return a certificate for code signing by ``email``, whom ``issuer`` knows; as Fulcio's, it is short-lived."""
        builder = _builder(x509.Name([]), self.name, key, timedelta(minutes=10))
        encoded = issuer.encode()
        extensions: list[tuple[x509.ExtensionType, bool]] = [
            (_usage(digital_signature=True), True),
            (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), False),
            (x509.SubjectAlternativeName([x509.RFC822Name(email)]), True),
            (x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), False),
            (x509.UnrecognizedExtension(ISSUER_RAW, encoded), False),
            (x509.UnrecognizedExtension(ISSUER, b"\x0c" + bytes([len(encoded)]) + encoded), False),  # UTF8String
        ]
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        return builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


class Fulcio:
    """Gives certificates to who shows a token of ``issuer``, over TLS on loopback.

    Attributes:
        url: of the service.
        refused: why certificates were refused, in order.
        given: whom certificates were given.
    """

    def __init__(self, issuer: Issuer, authority: Authority, tls: ssl.SSLContext) -> None:
        self.given: list[str] = []
        self.refused: list[str] = []
        self._issuer = issuer
        self._authority = authority
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.url = f"https://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    def __enter__(self) -> Fulcio:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.socket.close()
        self._thread.join()

    def certificates(self, token: str, asked: Any) -> list[str]:
        """Answer ``POST /api/v2/signingCert``: the certificate and the root.

        Raises:
            Exception: the token or the proof that the key is the caller's is wrong.
        """
        claims = self._issuer.claims(token)
        key = serialization.load_pem_public_key(asked["publicKey"]["content"].encode())
        assert isinstance(key, ec.EllipticCurvePublicKey)
        key.verify(base64.b64decode(asked["proofOfPossession"]), claims["email"].encode(), ec.ECDSA(hashes.SHA256()))
        self.given.append(claims["email"])
        return [self._authority.certify(key, claims["email"], claims["iss"]), self._authority.pem]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        fulcio = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body: Any = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                answer: dict[str, Any]
                try:
                    if self.path != "/api/v2/signingCert":
                        raise ValueError(f"no such address: {self.path}")
                    token = self.headers["Authorization"].removeprefix("Bearer ")
                    chain = fulcio.certificates(token, body["publicKeyRequest"])
                    status, answer = 200, {"signedCertificateDetachedSct": {"chain": {"certificates": chain}}}
                except Exception as error:  # whatever is wrong with a request
                    fulcio.refused.append(f"{type(error).__name__}: {error}")
                    status, answer = 401, {"code": 16, "message": "the identity token is not valid"}
                data = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing."""

        return Handler


class TimestampAuthority:
    """A timestamping authority (RFC 3161) on loopback; ``openssl ts`` makes its answers.

    Attributes:
        url: of the service.
        chain: file with its certificate and the root's.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.chain = directory / "tsa_chain.pem"
        key, authority = ec.generate_private_key(ec.SECP256R1()), Authority("timestamps for tests")
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a timestamp for tests")])
        builder = _builder(name, authority.name, key.public_key(), timedelta(days=1))
        usages = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING])
        own = builder.add_extension(_usage(digital_signature=True), critical=True).add_extension(usages, critical=True)
        certificate = own.sign(authority.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        self.chain.write_bytes(certificate + authority.pem.encode())
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        (directory / "tsa.pem").write_bytes(certificate + private)
        (directory / "tsa_serial").write_text("01")
        (directory / "tsa.cnf").write_text(
            f"[tsa]\ndefault_tsa = t\n[t]\nserial = {directory}/tsa_serial\nsigner_cert = {directory}/tsa.pem\n"
            f"signer_key = {directory}/tsa.pem\ncerts = {self.chain}\nsigner_digest = sha256\n"
            "default_policy = 1.2.3.4.1\ndigests = sha256, sha384, sha512\ness_cert_id_alg = sha256\n"
        )
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/api/v1/timestamp"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    def __enter__(self) -> TimestampAuthority:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        directory = self._directory

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                query = directory / "tsa_query"
                query.write_bytes(self.rfile.read(int(self.headers["Content-Length"])))
                command = ["openssl", "ts", "-reply", "-config", str(directory / "tsa.cnf"), "-queryfile", str(query)]
                answer = subprocess.run(command, capture_output=True, check=True).stdout
                self.send_response(200)
                self.send_header("Content-Type", "application/timestamp-reply")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing."""

        return Handler


def _builder(
    subject: x509.Name, issuer: x509.Name, key: CertificatePublicKeyTypes, valid: timedelta
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return x509.CertificateBuilder(
        subject_name=subject,
        issuer_name=issuer,
        public_key=key,
        serial_number=x509.random_serial_number(),
        not_valid_before=now - timedelta(minutes=1),
        not_valid_after=now + valid,
    ).add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)


def _usage(**used: bool) -> x509.KeyUsage:
    names = (
        "digital_signature content_commitment key_encipherment data_encipherment key_agreement key_cert_sign crl_sign"
    )
    names += " encipher_only decipher_only"
    return x509.KeyUsage(**{name: used.get(name, False) for name in names.split()})


def _json(content: object) -> bytes:
    return json.dumps(content).encode()


def _segment(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _bytes(segment: str) -> bytes:
    return base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
