"""What looks like a secret: files that hold credentials by their name, and keys and tokens of well-known forms.

A few patterns of our own and no library: detect-secrets reads files of a directory line by line, which gigabytes of
layers are not, and most of its detectors guess by entropy, which fires on every wheel. Patterns here have a fixed part
that is searched for first; what they find is named, and never shown.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

LONGEST = 1 << 20
"""Bytes: files that are longer hold no credentials, and are not searched."""


@dataclass(frozen=True)
class Token:
    """A secret that is known by its form. ``marker`` is in all of them, in a place where ``form`` matches."""

    name: str
    marker: bytes
    form: re.Pattern[bytes]


def _token(name: str, marker: str, form: str) -> Token:
    return Token(name, marker.encode(), re.compile(rf"(?<![A-Za-z0-9_-])(?:{form})(?![A-Za-z0-9])".encode()))


# What was matched is not tried in other ways ("++"): a file that is made for it would take hours.
_KEY = r"-----BEGIN [A-Z ]*PRIVATE KEY(?: BLOCK)?-----(?:[A-Za-z-]++: [^\n\\]*+|\s|\\r|\\n)*+[A-Za-z0-9+/=]{40}"

TOKENS = (
    Token("a private key", b"PRIVATE KEY", re.compile(_KEY.encode())),
    _token("an access key of AWS", "AKIA", r"AKIA[A-Z0-9]{9}(?!EXAMPLE)[A-Z0-9]{7}"),
    _token("a temporary access key of AWS", "ASIA", r"ASIA[A-Z0-9]{9}(?!EXAMPLE)[A-Z0-9]{7}"),
    _token("a token of GitHub", "ghp_", r"ghp_[A-Za-z0-9]{36}"),
    _token("a token of GitHub", "gho_", r"gho_[A-Za-z0-9]{36}"),
    _token("a token of GitHub", "ghs_", r"ghs_[A-Za-z0-9]{36}"),
    _token("a token of GitHub", "ghu_", r"ghu_[A-Za-z0-9]{36}"),
    _token("a token of GitHub", "ghr_", r"ghr_[A-Za-z0-9]{36,76}"),
    _token("a token of GitHub", "github_pat_", r"github_pat_[A-Za-z0-9_]{60,90}"),
    _token("a token of GitLab", "glpat-", r"glpat-[A-Za-z0-9_-]{20,}"),
    _token("a token of Slack", "xox", r"xox[abprs]-[0-9]{8,}-[A-Za-z0-9-]{10,}"),
    _token("an API key of Google", "AIza", r"AIza[A-Za-z0-9_-]{35}"),
    _token("a token of Hugging Face", "hf_", r"hf_[A-Za-z0-9]{34,40}"),
    _token("a token of a Python package index", "pypi-AgE", r"pypi-AgE[A-Za-z0-9_-]{50,}"),
    _token("a token of npm", "npm_", r"npm_[A-Za-z0-9]{36}"),
    _token("a key of Anthropic", "sk-ant-", r"sk-ant-[a-z]+[0-9]{2}-[A-Za-z0-9_-]{80,}"),
    _token("a key of OpenAI", "T3BlbkFJ", r"sk-[A-Za-z0-9_-]{20,}T3BlbkFJ[A-Za-z0-9_-]{20,}"),
    _token("a key of an Azure account", "AccountKey=", r"AccountKey=[A-Za-z0-9+/]{86}=="),
    _token("a token of Databricks", "dapi", r"dapi[0-9a-f]{32}(?:-[0-9])?"),
    _token("a key of Stripe", "k_live_", r"[rs]k_live_[A-Za-z0-9]{20,}"),
)

_LOGIN = re.compile(rb"(?m)^[^#\n]*://[^/\s:@]+:[^/\s@$]+@")
_ASSIGNED = re.compile(rb"(?m)^[ \t]*+(?:export[ \t]++)?(\w++)[ \t]*+=[ \t]*+[^\s#$]")
_SECRET_NAME = re.compile(rb"(?i)secret|token|passw|api_?key|credential")


def _docker(content: bytes) -> bool:
    try:
        auths = json.loads(content).get("auths")
        return any(entry.get("auth") or entry.get("password") for entry in auths.values())
    except (ValueError, AttributeError, RecursionError):
        return False


def _assigns(content: bytes) -> bool:
    return any(_SECRET_NAME.search(match[1]) for match in _ASSIGNED.finditer(content))


def _holds(*parts: bytes) -> Callable[[bytes], bool]:
    return lambda content: any(part in content for part in parts)


_FILES: tuple[tuple[re.Pattern[str], str, Callable[[bytes], bool]], ...] = tuple(
    (re.compile(rf"(?:^|/){name}$"), what, holds)
    for name, what, holds in (
        (r"[._]netrc", "a .netrc with passwords", _holds(b"password")),
        (r"\.pypirc", "a .pypirc with passwords", _holds(b"password")),
        (
            r"(?:\.?pip/pip|pip|\.pip|uv)\.(?:conf|ini|toml)",
            "an index with credentials",
            lambda text: bool(_LOGIN.search(text)),
        ),
        (r"\.git-credentials", "credentials of git", _holds(b"://")),
        (r"\.aws/credentials", "credentials of AWS", _holds(b"aws_secret_access_key", b"aws_session_token")),
        (r"\.docker/config\.json|\.dockercfg|containers/auth\.json", "credentials of registries", _docker),
        (r"\.kube/config", "credentials of Kubernetes", _holds(b"token:", b"client-key-data:", b"password:")),
        (
            r"gcloud/(?:application_default_credentials|legacy_credentials/.*/adc)\.json",
            "credentials of Google Cloud",
            _holds(b"refresh_token", b"private_key", b"client_secret"),
        ),
        (r"\.?kaggle/kaggle\.json", "credentials of Kaggle", _holds(b'"key"')),
        (r"gh/hosts\.yml", "credentials of GitHub's client", _holds(b"oauth_token:")),
        (r"\.npmrc", "a token of npm", _holds(b"_authToken", b"_password")),
        (r"\.pgpass", "passwords of PostgreSQL", lambda text: text.count(b":") >= 4),
        (r"\.env(?:\.(?:local|production|prod))?", "a .env with secrets", _assigns),
        (r"\.metaflowconfig/config[^/]*\.json", "Metaflow's configuration with a key", _holds(b"AUTH_KEY", b"_TOKEN")),
    )
)


def secrets(path: str, content: bytes) -> Iterator[str]:
    """Yield what of secrets a file seems to hold, each kind once.

    Args:
        path: of the file.
        content: all of it, at most :data:`LONGEST` bytes.
    """
    for pattern, what, holds in _FILES:
        if pattern.search(path) and holds(content):
            yield what
    names = {token.name: None for token in TOKENS if token.marker in content and token.form.search(content)}
    yield from names
