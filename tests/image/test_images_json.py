"""images.json of a build: digests, and the names that images get in a registry."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mfbazel.image import ImageError
from mfbazel.image.__main__ import main
from mfbazel.policy import PolicyError
from tests.image.layouts import assemble, make_layer, two_platforms

WHEELS = {"start": ["a" * 64], "train": ["b" * 64], "end": ["a" * 64]}


def flow_json(tmp_path: Path, *steps: str) -> Path:
    path = tmp_path / "flow.json"
    entries = [{"name": step, "environment": step, "requirements_sha256": f"hash-{step}"} for step in steps]
    environments = {step: {"python": "3.14", "wheels": {"linux/amd64": WHEELS[step]}} for step in steps}
    flow = {"name": "ChurnFlow", "steps": entries}
    path.write_text(json.dumps({"schema": 1, "flow": flow, "environments": environments}))
    return path


def images_json(tmp_path: Path, lock: Path, *options: str) -> dict[str, Any]:
    out = tmp_path / "images.json"
    main(["images-json", "--lock", str(lock), "--label", "//flows:churn", "--output", str(out), *options])
    result: dict[str, Any] = json.loads(out.read_text())
    return result


def two_steps(tmp_path: Path, *options: str) -> dict[str, Any]:
    """images.json of two steps with images of their own."""
    lock = flow_json(tmp_path, "start", "train")
    start = assemble(tmp_path, "one", "--layer", make_layer(tmp_path, "first"))
    train = assemble(tmp_path, "two", "--layer", make_layer(tmp_path, "second"))
    return images_json(tmp_path, lock, "--step", f"start={start}", "--step", f"train={train}", *options)


def status(tmp_path: Path, text: str) -> str:
    path = tmp_path / "status.txt"
    path.write_text(text)
    return str(path)


def test_images_json_says_digest_and_requirements_of_every_step(tmp_path: Path) -> None:
    index, single = two_platforms(tmp_path), assemble(tmp_path, "single")
    lock = flow_json(tmp_path, "start", "end")
    found = images_json(tmp_path, lock, "--step", f"end={index}", "--step", f"start={single}", "--foreign", "end")
    assert len(found["steps"]["start"].pop("lock")) == 16
    assert {step: list(entry.pop("layers")) for step, entry in found["steps"].items()} == {
        "start": ["linux/amd64"],
        "end": ["linux/amd64", "linux/arm64"],
    }
    assert found == {
        "schema": 1,
        "flow": "ChurnFlow",
        "label": "//flows:churn",
        "repository": None,
        "steps": {
            "start": {
                "digest": (tmp_path / "single.sha256").read_text().strip(),
                "requirements_sha256": "hash-start",
                "platforms": ["linux/amd64"],
            },
            "end": {
                "digest": (tmp_path / "index.sha256").read_text().strip(),
                "requirements_sha256": "hash-end",
                "platforms": ["linux/amd64", "linux/arm64"],
            },
        },
    }
    options = ("--step", f"end={index}", "--step", f"start={single}", "--repository", "registry.example.com/ml")
    assert images_json(tmp_path, lock, *options)["repository"] == "registry.example.com/ml"


def test_images_json_lists_the_layers_of_every_platform_from_the_bottom(tmp_path: Path) -> None:
    layers = [make_layer(tmp_path, "below"), make_layer(tmp_path, "above")]
    image = assemble(tmp_path, "layered", *(word for layer in layers for word in ("--layer", layer)))
    step = images_json(tmp_path, flow_json(tmp_path, "start"), "--step", f"start={image}")["steps"]["start"]
    digests = [json.loads(Path(layer.partition("=")[2]).read_text())["digest"] for layer in layers]
    assert step["layers"]["linux/amd64"][-2:] == digests


def test_images_json_and_lock_must_have_the_same_steps(tmp_path: Path) -> None:
    single = assemble(tmp_path, "single")
    with pytest.raises(ImageError, match="no image was given for: end"):
        images_json(tmp_path, flow_json(tmp_path, "start", "end"), "--step", f"start={single}")
    with pytest.raises(ImageError, match=r"flow ChurnFlow has no step: other; it has start"):
        images_json(tmp_path, flow_json(tmp_path, "start"), "--step", f"start={single}", "--step", f"other={single}")
    lock = tmp_path / "flow.json"
    lock.write_text('{"schema": 1, "flow": null, "environments": {}}')
    with pytest.raises(ImageError, match="lock without a flow"):
        images_json(tmp_path, lock)
    lock.write_text("{}")
    with pytest.raises(ImageError, match=r"is not the flow\.json of a lock"):
        images_json(tmp_path, lock)


def test_the_lock_of_a_step_changes_with_its_packages_alone(tmp_path: Path) -> None:
    single = assemble(tmp_path, "single")
    steps = [f"--step={step}={single}" for step in WHEELS]
    found = images_json(tmp_path, flow_json(tmp_path, *WHEELS), *steps)["steps"]
    assert found["start"]["lock"] == found["end"]["lock"] != found["train"]["lock"]


def test_a_repository_may_be_that_of_a_step(tmp_path: Path) -> None:
    found = two_steps(tmp_path, "--repository", "registry.example.com/{flow}/{step}")
    assert found["repository"] is None
    repositories = {step: entry["repository"] for step, entry in found["steps"].items()}
    assert repositories == {"start": "registry.example.com/churn/start", "train": "registry.example.com/churn/train"}


def test_a_template_that_is_the_same_for_all_steps_is_the_repository_of_all(tmp_path: Path) -> None:
    found = two_steps(tmp_path, "--repository", "registry.example.com/{flow}/{platform}")
    assert found["repository"] == "registry.example.com/churn/linux-amd64"
    assert all("repository" not in entry for entry in found["steps"].values())


def test_tags_name_digests_and_stamp_variables_wait_for_a_stamped_build(tmp_path: Path) -> None:
    tags = ("--tag", "{step}-{lock}", "--tag", "{step}-{STABLE_GIT_COMMIT}")
    start = two_steps(tmp_path, *tags)["steps"]["start"]
    assert start["tags"] == {f"start-{start['lock']}": start["digest"]}
    assert start["unstamped_tags"] == ["{step}-{STABLE_GIT_COMMIT}"]
    stamped = two_steps(tmp_path, *tags, "--status", status(tmp_path, "STABLE_GIT_COMMIT 0123abc\nBUILD_TIMESTAMP 7\n"))
    start = stamped["steps"]["start"]
    assert start["tags"] == {f"start-{start['lock']}": start["digest"], "start-0123abc": start["digest"]}
    assert "unstamped_tags" not in start


def test_tags_of_the_whole_flow_leave_the_step_open_and_say_nothing_of_one_image(tmp_path: Path) -> None:
    templates = ("{flow}-{step}", "{step}-{STABLE_GIT_COMMIT}", "{step}-{lock}", "{step}-{platform}")
    tags = [option for template in templates for option in ("--tag", template)]
    assert two_steps(tmp_path, *tags)["tags"] == ["churn-{step}"]
    stamped = two_steps(tmp_path, *tags, "--status", status(tmp_path, "STABLE_GIT_COMMIT 0123abc\n"))
    assert stamped["tags"] == ["churn-{step}", "{step}-0123abc"]


def test_a_tag_with_the_platform_names_the_image_of_that_platform(tmp_path: Path) -> None:
    index = two_platforms(tmp_path)
    (top,) = json.loads((index / "index.json").read_text())["manifests"]
    manifests = json.loads((index / "blobs/sha256" / top["digest"].removeprefix("sha256:")).read_text())["manifests"]
    options = ("--step", f"start={index}", "--tag", "v1-{platform}", "--tag", "v1")
    tags = images_json(tmp_path, flow_json(tmp_path, "start"), *options)["steps"]["start"]["tags"]
    by_architecture = {entry["platform"]["architecture"]: entry["digest"] for entry in manifests}
    assert tags == {
        "v1": top["digest"],
        "v1-linux-amd64": by_architecture["amd64"],
        "v1-linux-arm64": by_architecture["arm64"],
    }


def test_a_tag_that_would_name_two_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"the tag 'latest' would name the images of start and of train. Use \{step\}"):
        two_steps(tmp_path, "--tag", "latest")
    # In repositories of their own they are two tags.
    found = two_steps(tmp_path, "--tag", "latest", "--repository", "registry.example.com/{step}")
    assert all(list(entry["tags"]) == ["latest"] for entry in found["steps"].values())


@pytest.mark.parametrize(
    ("repository", "message"),
    [
        ("r.example.com/{stp}", r"`repository`: \{stp\} in 'r.example.com/\{stp\}' is not known; known are \{flow\}, "),
        ("r.example.com/{STABLE_X}", r"\{STABLE_X\} in '.*' is a stamp variable, and this build is not stamped: build"),
        ("r.example.com/{step", "has a brace without its partner"),
    ],
)
def test_a_template_that_cannot_be_expanded_is_refused(tmp_path: Path, repository: str, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        two_steps(tmp_path, "--repository", repository)
    assert not (tmp_path / "images.json").exists()


def test_a_stamp_variable_that_no_command_prints_is_refused_with_those_that_are_printed(tmp_path: Path) -> None:
    file = status(tmp_path, "STABLE_GIT_COMMIT 0123abc\n")
    with pytest.raises(ImageError, match=r"does not print STABLE_X, .*; it prints: STABLE_GIT_COMMIT"):
        two_steps(tmp_path, "--repository", "r.example.com/{STABLE_X}", "--status", file)


def test_an_index_has_no_repository_of_one_platform(tmp_path: Path) -> None:
    options = ("--step", f"start={two_platforms(tmp_path)}", "--repository", "r.example.com/{platform}")
    with pytest.raises(ImageError, match=r"one index for linux/amd64, linux/arm64, which is in one repository"):
        images_json(tmp_path, flow_json(tmp_path, "start"), *options)


def test_a_template_that_gives_no_tag_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"'\{step\}/\{lock\}' gives 'start/[0-9a-f]{16}', which is no tag"):
        two_steps(tmp_path, "--tag", "{step}/{lock}")


def test_the_lock_of_a_derived_image_changes_with_what_it_is_derived_from(tmp_path: Path) -> None:
    alone = two_steps(tmp_path)["steps"]
    derived = two_steps(tmp_path, "--includes", "start=train")["steps"]
    assert (derived["start"]["includes"], derived["train"].get("includes")) == (["train"], None)
    assert derived["start"]["lock"] != alone["start"]["lock"]
    assert derived["train"]["lock"] == alone["train"]["lock"]


def test_an_image_that_is_not_of_the_lock_has_no_lock_but_a_tag(tmp_path: Path) -> None:
    start = two_steps(tmp_path, "--foreign", "start", "--tag", "{step}-{lock}")["steps"]["start"]
    assert "lock" not in start
    assert list(start["tags"]) == [f"start-{start['digest'].removeprefix('sha256:')[:16]}"]


def policy(tmp_path: Path, text: str) -> str:
    path = tmp_path / "mfbazel.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_a_repository_that_the_policy_does_not_allow_is_refused(tmp_path: Path) -> None:
    rules = policy(tmp_path, '[allowed]\nregistries = ["registry.example.com/ml"]\n')
    with pytest.raises(PolicyError, match=r"//flows:churn: repositories of images") as caught:
        two_steps(tmp_path, "--policy", rules, "--repository", "other.example.com/ml/{step}")
    assert "the repository other.example.com/ml/start: not in [allowed] registries of mfbazel.toml" in str(caught.value)


def test_what_the_policy_says_of_registries_and_signatures_travels_with_images_json(tmp_path: Path) -> None:
    rules = policy(tmp_path, '[allowed]\nregistries = ["registry.example.com/ml"]\npackages = ["numpy"]\n')
    found = two_steps(tmp_path, "--policy", rules, "--repository", "registry.example.com/ml/churn")
    assert found["policy"] == {"allowed": {"registries": ["registry.example.com/ml"]}}
    assert "policy" not in two_steps(tmp_path, "--policy", policy(tmp_path, 'contact = "#ml"\n[lock]\n'))
    signing = '[signing]\nrequired = ["registry.example.com/prod"]\nsigners = ["cosign"]\n'
    found = two_steps(tmp_path, "--policy", policy(tmp_path, f'contact = "#ml"\n{signing}'))
    required = {"required": ["registry.example.com/prod"], "signers": ["cosign"]}
    assert found["policy"] == {"signing": required, "contact": "#ml"}
