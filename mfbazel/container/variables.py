"""The environment variables of a container: those of the person who starts it, but for what is about this machine."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

# fmt: off
_OF_THIS_MACHINE = frozenset(
    (
        "_", "OLDPWD", "PWD", "SHLVL", "SHELL", "TERMCAP", "PATH", "MANPATH", "INFOPATH", "PKG_CONFIG_PATH",
        "CDPATH", "BASH_ENV", "ENV",
        "PYTHONHOME", "PYTHONEXECUTABLE", "PYTHONPLATLIBDIR", "PYTHONPYCACHEPREFIX", "PYTHONSTARTUP",
        "PYTHONUSERBASE",
        "VIRTUAL_ENV", "VIRTUAL_ENV_PROMPT", "JAVA_HOME", "GOPATH", "GOROOT", "PERL5LIB", "NODE_PATH",
        "CUDA_HOME", "CUDA_PATH",
        "SSH_AUTH_SOCK", "DBUS_SESSION_BUS_ADDRESS", "GPG_AGENT_INFO", "DOCKER_HOST", "DOCKER_CONFIG",
        "NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID",
        "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR",
        "XDG_CONFIG_DIRS", "XDG_DATA_DIRS",
    )
)
# fmt: on
_PREFIXES = ("CONDA_", "LD_", "DYLD_", "PYENV_", "MAMBA_", "NIX_", "CONTAINERS_", "BASH_FUNC_")

FILE_VARIABLES = (
    "AWS_CA_BUNDLE",
    "AWS_CONFIG_FILE",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "CURL_CA_BUNDLE",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "METAFLOW_HOME",
    "REQUESTS_CA_BUNDLE",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
)
"""Variables that name a file or a directory which Metaflow or its datastores read."""
_CONFIGURATION = (".metaflowconfig", ".aws", ".azure", ".config/gcloud")


def forwarded(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of ``environ`` that a container gets."""
    return {
        name: value
        for name, value in environ.items()
        if name not in _OF_THIS_MACHINE and not name.startswith(_PREFIXES)
    }


def configuration(environ: Mapping[str, str]) -> list[Path]:
    """Return the files and directories that hold the settings of Metaflow and of its datastores, where they exist."""
    home = environ.get("HOME")
    listed = [Path(home, name) for name in _CONFIGURATION] if home else []
    listed += [Path(environ[name]) for name in FILE_VARIABLES if environ.get(name)]
    return [Path(os.path.normpath(path)) for path in listed if path.is_absolute() and path.exists()]
