"""A simulated AWS on loopback, for flows whose datastore is S3."""

from __future__ import annotations

import logging
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from moto.server import ThreadedMotoServer

KEYS = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_DEFAULT_REGION": "us-east-1"}
NOWHERE = "http://127.0.0.1:9"
"""The endpoint of flows that ask nothing of S3."""


def s3(endpoint: str = NOWHERE) -> dict[str, str]:
    """Return the variables that make the bucket at ``endpoint`` a flow's datastore."""
    return {
        **KEYS,
        "METAFLOW_DEFAULT_DATASTORE": "s3",
        "METAFLOW_DATASTORE_SYSROOT_S3": "s3://bucket/metaflow",
        "METAFLOW_S3_ENDPOINT_URL": endpoint,
    }


@contextmanager
def simulated_aws() -> Iterator[str]:
    """Run moto, with a bucket in its S3; yield its endpoint."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        endpoint = f"http://{host}:{port}"
        urllib.request.urlopen(urllib.request.Request(f"{endpoint}/bucket", method="PUT")).close()
        yield endpoint
    finally:
        server.stop()
