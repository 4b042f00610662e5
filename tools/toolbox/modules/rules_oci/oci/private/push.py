"""Push one image or index with crane: by digest, then its tags (OCI distribution-spec)."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path


def parser() -> argparse.ArgumentParser:
    """Return the parser of the options, those of rules_oci's oci_push among them."""
    result = argparse.ArgumentParser(prog="oci_push", description=__doc__, fromfile_prefix_chars="@")
    result.add_argument("--image", type=Path, required=True, help="OCI layout directory")
    result.add_argument("--crane", type=Path, required=True, help="the crane executable")
    result.add_argument("-r", "--repository", help="repository to push to")
    result.add_argument("--repository-file", type=Path, help="file that holds the repository")
    result.add_argument("-t", "--tag", action="append", default=[], help="tag to give (may be repeated)")
    result.add_argument("--tags-file", type=Path, help="file with one tag per line")
    return result


def manifest_digest(layout: Path) -> str:
    """Return the digest of the one manifest or index that the layout's index.json names."""
    manifests = json.loads((layout / "index.json").read_text())["manifests"]
    if len(manifests) != 1:
        raise SystemExit(f"error: {layout}/index.json names {len(manifests)} manifests, one is needed")
    digest: str = manifests[0]["digest"]
    return digest


def main() -> int:
    """Run the front; returns crane's exit code when crane fails."""
    options, rest = parser().parse_known_args()
    repository = options.repository or options.repository_file.read_text().strip()
    tags = [*options.tag]
    if options.tags_file:
        tags += [line.strip() for line in options.tags_file.read_text().splitlines() if line.strip()]
    reference = f"{repository}@{manifest_digest(options.image)}"
    commands = [["push", str(options.image), reference], *(["tag", reference, tag] for tag in tags)]
    for command in commands:
        result = subprocess.run([str(options.crane), *rest, *command], stdout=subprocess.DEVNULL, check=False)
        if result.returncode:
            print(f"error: crane {command[0]} {reference} failed; its message is above", file=sys.stderr)
            return result.returncode
    print(reference)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
