"""Whether a base image has the Python that step images link to."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from mfbazel.image import ImageError
from mfbazel.image.__main__ import main
from mfbazel.layer.__main__ import main as layer_main


def base(tmp_path: Path, *layers: dict[str, str]) -> Path:
    """Assemble an image of layers, each a dictionary of path to symlink target (empty for a file)."""
    options = []
    for number, files in enumerate(layers):
        blob, descriptor = tmp_path / f"{number}.tar", tmp_path / f"{number}.json"
        with tarfile.open(blob, "w") as archive:
            for path, target in files.items():
                member = tarfile.TarInfo(path)
                if target:
                    member.type, member.linkname = tarfile.SYMTYPE, target
                archive.addfile(member, io.BytesIO())
        layer_main(["tar", "--blob-in", str(blob), "--descriptor", str(descriptor)])
        options += ["--layer", f"{blob}={descriptor}"]
    main(["assemble", "--output", str(tmp_path / "base"), "--os", "linux", "--architecture", "amd64", *options])
    return tmp_path / "base"


def check(tmp_path: Path, layout: Path, interpreter: str, platform: str = "linux/amd64") -> str:
    files, output = tmp_path / "files.json", tmp_path / "found"
    main(["base", "--base", str(layout), "--platform", platform, "--output", str(tmp_path / "taken")])
    main(["files", "--base", str(tmp_path / "taken"), "--output", str(files)])
    options = ["--files", str(files), "--interpreter", interpreter]
    main(["interpreter", *options, "--image", "//flows:my_flow.train", "--output", str(output)])
    return output.read_text().strip()


def test_the_interpreter_is_found_through_links_of_files_and_directories(tmp_path: Path) -> None:
    layout = base(
        tmp_path,
        {"bin": "usr/bin", "usr/bin/python3.14": ""},
        {"usr/local/bin/python3.14": "../../../bin/python3.14"},
    )
    assert check(tmp_path, layout, "/usr/local/bin/python3.14") == "/usr/bin/python3.14"


def test_a_base_without_it_is_refused_with_image_path_and_the_pythons_that_it_has(tmp_path: Path) -> None:
    layout = base(tmp_path, {"usr/bin/python3.14": "", "usr/bin/python3": "python3.14"})
    with pytest.raises(ImageError) as raised:
        check(tmp_path, layout, "/usr/local/bin/python3.11")
    text = str(raised.value)
    assert text.startswith("//flows:my_flow.train: the base image has no /usr/local/bin/python3.11")
    assert "Pythons of the base: /usr/bin/python3.14." in text
    assert not (tmp_path / "found").exists()


@pytest.mark.parametrize("whiteout", ["usr/bin/.wh.python3.14", "usr/.wh.bin", "usr/bin/.wh..wh..opq"])
def test_what_a_later_layer_removes_is_not_there(tmp_path: Path, whiteout: str) -> None:
    layout = base(tmp_path, {"usr/bin/python3.14": ""}, {whiteout: ""})
    with pytest.raises(ImageError, match="Pythons of the base: none"):
        check(tmp_path, layout, "/usr/bin/python3.14")


def test_links_that_go_round_lead_nowhere(tmp_path: Path) -> None:
    layout = base(tmp_path, {"a": "b", "b": "a"})
    with pytest.raises(ImageError, match="has no /a"):
        check(tmp_path, layout, "/a")


def test_a_base_without_the_platform_is_refused_with_the_platforms_that_it_has(tmp_path: Path) -> None:
    layout = base(tmp_path, {"usr/bin/python3.14": ""})
    with pytest.raises(
        ImageError, match=r"has no image for the platform linux/arm64; it has: linux/amd64\. Name an image"
    ):
        check(tmp_path, layout, "/usr/bin/python3.14", "linux/arm64")
