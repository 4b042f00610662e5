"""What a layer takes of memory: less than 256 MB, whatever the wheel."""

from __future__ import annotations

import base64
import hashlib
import random
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.layer.wheels import environment

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from Linux's /proc")

LIMIT = 256 << 10
"""Kilobytes."""

# The peak of this program, not of the process that started it, which getrusage counts too.
SCRIPT = """\
import re, resource, sys
from pathlib import Path
from mfbazel.layer.__main__ import main
main(sys.argv[1:])
print(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def write_wheel(directory: Path, files: Iterator[tuple[str, bytes, int]]) -> Path:
    """Write a wheel of path, block and number of times that the block is repeated."""
    path = directory / "big-1.0-py3-none-any.whl"
    lines = []
    metadata = [
        ("big-1.0.dist-info/METADATA", b"Metadata-Version: 2.1\nName: big\nVersion: 1.0\n", 1),
        ("big-1.0.dist-info/WHEEL", b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\n", 1),
    ]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, block, count in [*files, *metadata]:
            digest = hashlib.sha256()
            with archive.open(name, "w") as member:
                for _ in range(count):
                    member.write(block)
                    digest.update(block)
            encoded = base64.urlsafe_b64encode(digest.digest()).decode().rstrip("=")
            lines.append(f"{name},sha256={encoded},{len(block) * count}\n")
        archive.writestr("big-1.0.dist-info/RECORD", "".join(lines) + "big-1.0.dist-info/RECORD,,\n")
    return path


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """600 MiB in three files: one that does not compress, one of zeros, one between."""
    half = random.Random(1).randbytes(2 << 10) + bytes(6 << 10)
    files = [
        ("noise.bin", random.Random(2).randbytes(1 << 20), 40),
        ("zeros.bin", bytes(1 << 20), 320),
        ("half.bin", half, 30720),
    ]
    return write_wheel(tmp_path_factory.mktemp("large"), iter(files))


def peak(tmp_path: Path, wheel: Path, *options: str) -> int:
    """Return the peak resident memory of one layer in kilobytes, its children's included one by one."""
    outputs = ["--blob", f"{tmp_path}/b", "--descriptor", f"{tmp_path}/d", "--files", f"{tmp_path}/f"]
    command = [sys.executable, "-c", SCRIPT, "wheels", "--python", "3.14", *outputs, *options, str(wheel)]
    run = subprocess.run(command, env=environment(), capture_output=True, text=True, check=True)
    return max(map(int, run.stdout.split()))


@pytest.mark.parametrize("compression", ["zstd", "gzip", "none"])
def test_memory_does_not_grow_with_the_wheel(tmp_path: Path, large: Path, compression: str) -> None:
    assert peak(tmp_path, large, "--compression", compression) < LIMIT


def test_memory_suffices_for_very_many_files(tmp_path: Path) -> None:
    files = ((f"big/package_{i // 100}/module_with_a_long_name_{i}.py", b"value = 1\n", 1) for i in range(20_000))
    assert peak(tmp_path, write_wheel(tmp_path, files)) < LIMIT


def test_memory_suffices_for_the_longest_source_that_is_compiled(tmp_path: Path) -> None:
    lines = "".join(f"def function_{i}(x):\n    return x.attribute_{i}(x)\n" for i in range(40_000)).encode()
    source = lines[: lines.rindex(b"def", 0, 1 << 20)]
    wheel = write_wheel(tmp_path, iter([("big.py", source, 1)]))
    assert peak(tmp_path, wheel, "--bytecode") < LIMIT
