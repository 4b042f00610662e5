"""Pushing a flow with a signer and documents: in which order, once, all or nothing; and verifying accepts it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bench.push_rig import Proxy, find_crane, serve_registry, write_images_json, write_index_layout, write_layout
from mfbazel import state
from mfbazel.policy import PolicyError
from mfbazel.push.__main__ import main
from mfbazel.push.embedded import EmbeddedRegistry
from mfbazel.push.errors import PushError
from mfbazel.registry import Client, publish_images
from mfbazel.registry.client import INDEX
from mfbazel.sign import SignError, list_referrers
from mfbazel.sign.documents import SPDX
from mfbazel.verify.cli import main as verify
from tests.registry.gate import Asked, Gate, Reply
from tests.sign.rig import Keys, cosign_keys, install_acme, spdx

LABEL = "//examples/churn:churn_flow"
PASSWORD = "not to be seen anywhere"


@dataclass
class Flow:
    """A flow's build output, its documents, and how to push it; ``signer`` are options of both command lines."""

    root: Path
    repository: str | None
    signer: list[str] = field(default_factory=lambda: ["--sign=acme", "--sign-option=key=ACME_KEY"])
    layouts: dict[str, Path] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    documents: list[Path] = field(default_factory=list)

    def build(self, step: str, content: bytes) -> None:
        """Build the image of a step, and its SBOM."""
        self.layouts[step] = self.root / "layouts" / step
        self.digests[step] = write_layout(self.layouts[step], {"content": content})
        self.describe(step, self.digests[step])

    def describe(self, name: str, digest: str) -> None:
        """Write an SBOM of an image."""
        path = self.root / f"{name}.spdx.json"
        path.write_bytes(spdx(digest, {"six": "1.0"}))
        self.documents.append(path)

    def push(self, *options: str, signer: list[str] | None = None) -> int:
        """Push through the command line; return the exit code."""
        images = write_images_json(self.root / "images.json", self.digests, self.repository, LABEL)
        content = json.loads(images.read_text())
        for entry in content["steps"].values():
            entry["lock"] = "0123456789abcdef"
        images.write_text(json.dumps(content))
        arguments = ["flow", f"--images={images}", f"--crane={find_crane()}", f"--workspace={self.root}"]
        arguments += [f"--registry-store={self.root / 'store'}"]
        arguments += [f"--image={step}={path}" for step, path in self.layouts.items()]
        arguments += [f"--attach={path}" for path in self.documents]
        return main([*arguments, *(self.signer if signer is None else signer), *options])

    @property
    def record(self) -> Path:
        """Where the push is recorded."""
        return state.images_path(self.root, LABEL)

    def verify(self, source: str = "", *options: str) -> int:
        """Verify through the command line; return the exit code."""
        return verify([f"--images={source or self.record}", f"--workspace={self.root}", *self.signer, *options])


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep records, caches and what cosign writes in the scratch directory."""
    monkeypatch.setenv("MFBAZEL_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COSIGN_PASSWORD", PASSWORD)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return cosign_keys(tmp_path_factory.mktemp("keys"), password=PASSWORD)


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[Proxy]:
    with serve_registry(find_crane(), tmp_path / "disk") as host, Proxy(host) as counting:
        yield counting


@pytest.fixture
def flow(tmp_path: Path, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> Flow:
    """Two steps with images of their own, and one that shares the first's; a plug-in signs, which is quick."""
    install_acme(tmp_path / "site")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setenv("ACME_KEY", "a key of the team")
    made = Flow(tmp_path, f"{proxy.host}/ml/churn")
    made.build("start", b"start")
    made.build("train", b"train")
    made.build("end", b"start")
    return made


@pytest.fixture
def cosign(flow: Flow, keys: Keys) -> Flow:
    """The same, signed by cosign."""
    flow.signer = ["--sign=cosign", *(f"--sign-option={name}={value}" for name, value in keys.options.items())]
    return flow


def test_documents_and_signatures_come_before_tags_and_the_map(flow: Flow, proxy: Proxy) -> None:
    assert flow.push("--tag=v1") == 0
    names = [path.rpartition("/")[2] for verb, path in proxy.take().requests if verb == "PUT" and "/manifests/" in path]
    tags = [name for name in names if not name.startswith("sha256")]
    assert set(tags) == {"start-v1", "train-v1", "end-v1", "churn_flow.images", "churn_flow.images-v1"}
    images = {names.index(digest) for digest in flow.digests.values()}
    fallback = {digest.replace(":", "-") for digest in flow.digests.values()}
    lists = [at for at, name in enumerate(names) if name in fallback]
    signatures = [
        at for at, name in enumerate(names) if name.removesuffix(".acme") in fallback and name not in fallback
    ]
    assert max(images) < min(lists)
    assert (len(lists), len(signatures)) == (2, 2)
    assert max(lists + signatures) < min(names.index(f"{step}-v1") for step in flow.digests)
    # The artifact is there and signed under no tag before a tag names it.
    assert names[names.index("churn_flow.images") - 1].endswith(".acme")


def test_what_was_pushed_verifies_from_the_record_and_from_the_registry(
    cosign: Flow, proxy: Proxy, capsys: pytest.CaptureFixture[str]
) -> None:
    flow = cosign
    flow.push()
    assert "attached 2 documents and 5 signatures" in capsys.readouterr().err
    assert flow.verify("", "--expect=spdx") == 0
    assert flow.verify(f"oci://{proxy.host}/ml/churn:churn_flow.images", "--expect=spdx") == 0
    assert "0 failed, 0 skipped" in capsys.readouterr().err


def test_a_push_without_changes_makes_the_requests_of_one_without_a_signer(
    flow: Flow, proxy: Proxy, capsys: pytest.CaptureFixture[str]
) -> None:
    flow.push()
    proxy.take()
    flow.push()
    signed = proxy.take().requests
    assert "already attached and signed" in capsys.readouterr().err
    assert [verb for verb, path in signed if "/manifests/" in path] == ["HEAD"] * 3  # two images and the map
    # Another machine remembers nothing: it asks, and neither sends nor signs again.
    (flow.record.with_name("signed.json")).unlink()
    flow.push()
    counts = proxy.take()
    assert not counts.of("PUT")
    assert "already attached and signed" in capsys.readouterr().err
    flow.documents = []
    flow.push(signer=[])  # its record says that it signed nothing
    proxy.take()
    flow.push(signer=[])
    assert sorted(signed) == sorted(proxy.take().requests)


def test_what_verifying_misses_the_next_push_attaches_and_signs_again(
    flow: Flow, proxy: Proxy, capsys: pytest.CaptureFixture[str]
) -> None:
    """A push remembers what it did; the registry has lost it, or another key counts now that has the same name."""
    flow.push()
    empty = {"schemaVersion": 2, "mediaType": INDEX, "manifests": []}
    tag = flow.digests["train"].replace(":", "-")
    Client(proxy.host).put_manifest("ml/churn", tag, json.dumps(empty).encode(), INDEX)
    assert flow.verify("", "--expect=spdx") == 1
    flow.push()
    assert flow.verify("", "--expect=spdx") == 1  # nobody said of which flow it was
    assert flow.verify("", "--expect=spdx", f"--label={LABEL}") == 1
    assert f"the next push of {LABEL} looks again" in capsys.readouterr().err
    flow.push()
    assert "attached 1 document and 1 signature" in capsys.readouterr().err
    assert flow.verify("", "--expect=spdx", f"--label={LABEL}") == 0


def test_a_push_that_cannot_be_signed_sets_no_tag_and_records_nothing(
    cosign: Flow, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    flow = cosign
    monkeypatch.setenv("COSIGN_PASSWORD", "wrong")
    with pytest.raises(PushError, match=r"the image of the step.* The password is wrong.*No tag that would name it"):
        flow.push("--tag=v1")
    assert not flow.record.exists()
    assert Client(proxy.host).head_manifest("ml/churn", "start-v1") is None
    assert Client(proxy.host).head_manifest("ml/churn", "churn_flow.images") is None
    monkeypatch.setenv("COSIGN_PASSWORD", PASSWORD)
    proxy.take()
    flow.push("--tag=v1")
    assert flow.verify() == 0
    assert proxy.take().blob_bytes < 20_000  # signatures and the map, no layer


def test_a_registry_that_takes_no_referrers_is_named(flow: Flow, proxy: Proxy) -> None:
    def refuse(asked: Asked) -> Reply | None:
        return Reply(403, b"") if asked.method == "PUT" and b'"subject"' in asked.body else None

    with Gate(proxy.host) as gate:
        gate.rule = refuse
        flow.repository = f"{gate.host}/ml/churn"
        with pytest.raises(PushError) as caught:
            flow.push("--tag=v1")
    said = str(caught.value)
    assert f"the image of the steps 'start', 'end' is in {flow.repository}, but what belongs to it cannot be" in said
    assert "does not let you push to" in said
    assert "push without the attributes `attach` and `sign`" in said
    assert Client(proxy.host).head_manifest("ml/churn", "start-v1") is None


def test_no_secret_is_in_what_a_push_prints_and_keeps(
    cosign: Flow, keys: Keys, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cosign.push("--json")
    out = capsys.readouterr()
    result = json.loads(out.out)["flows"][0]
    assert (result["attached"], result["signed"]) == (2, 5)
    kept = [path for path in (tmp_path / "state").rglob("*") if path.is_file()]
    assert {path.name for path in kept} == {"images.json", "signed.json"}
    private = keys.private.read_text().splitlines()[1]
    for text in (out.out, out.err, *(path.read_text() for path in kept)):
        assert PASSWORD not in text
        assert private not in text


def test_a_document_of_another_build_is_refused_before_anything_is_sent(flow: Flow, proxy: Proxy) -> None:
    flow.describe("other", f"sha256:{'0' * 64}")
    with pytest.raises(PushError, match=r"other\.spdx\.json is about sha256:0+, which is none of the images"):
        flow.push()
    assert not proxy.take().requests


def test_an_unknown_signer_is_refused_before_anything_is_sent(flow: Flow, proxy: Proxy) -> None:
    with pytest.raises(SignError, match="there are acme, cosign, notation"):
        flow.push(signer=["--sign=cosing"])
    with pytest.raises(SignError, match="has no option 'kee'"):
        flow.push(signer=["--sign=cosign", "--sign-option=kee=x"])
    with pytest.raises(SignError, match="of which signer"):
        flow.push(signer=["--sign-option=key=x"])
    assert not proxy.take().requests


def test_without_a_signer_and_in_a_dry_run_nothing_is_signed(flow: Flow, proxy: Proxy) -> None:
    flow.push("--dry-run")
    assert not proxy.take().of("PUT")
    flow.push("--no-sign")
    there = list_referrers(Client(proxy.host), "ml/churn", flow.digests["train"])
    assert [item["artifactType"] for item in there.descriptors] == [SPDX]


def test_sboms_belong_to_the_platforms_of_an_index_and_the_index_is_signed(flow: Flow, proxy: Proxy) -> None:
    for name in ("amd64", "arm64"):
        digest = write_layout(flow.root / name, {"content": name.encode()})
        flow.describe(name, digest)
    flow.layouts["train"] = flow.root / "index"
    flow.digests["train"] = write_index_layout(flow.layouts["train"], [flow.root / "amd64", flow.root / "arm64"])
    flow.documents = [path for path in flow.documents if path.name != "train.spdx.json"]
    flow.push()
    assert flow.verify("", "--step=train") == 0
    client = Client(proxy.host)
    index = json.loads(client.get_manifest("ml/churn", flow.digests["train"]).data)
    for entry in index["manifests"]:
        kinds = [item["artifactType"] for item in list_referrers(client, "ml/churn", entry["digest"]).descriptors]
        assert kinds == [SPDX]
        assert client.head_manifest("ml/churn", f"{entry['digest'].replace(':', '-')}.acme") is None
    assert not list_referrers(client, "ml/churn", flow.digests["train"]).descriptors


def test_the_embedded_registry_has_signatures_again_after_it_was_started_anew(flow: Flow) -> None:
    """It keeps manifests in memory, and is given back only those that a push itself keeps."""
    flow.repository = None
    registry = EmbeddedRegistry(flow.root / "store")
    try:
        flow.push()
        assert flow.verify("", "--expect=spdx") == 0
        registry.stop()
        flow.push()
        assert flow.verify("", "--expect=spdx") == 0
    finally:
        registry.stop()


SIGNING = """
contact = "the channel #ml"
[signing]
required = ["127.0.0.1:*/ml"]
signers = ["acme"]
attach = ["spdx"]
"""


def test_the_policy_refuses_what_is_not_signed_as_it_says(flow: Flow, proxy: Proxy) -> None:
    (flow.root / "mfbazel.toml").write_text(SIGNING)
    with pytest.raises(
        PolicyError, match=r"unsigned: \[signing\] required of mfbazel.toml.*`sign` names 'acme'"
    ) as caught:
        flow.push("--no-sign")
    assert "ask the channel #ml" in str(caught.value)
    with pytest.raises(PolicyError, match=r"signed by notation: not in \[signing\] signers"):
        flow.push(signer=["--sign=notation"])
    documents, flow.documents = flow.documents, flow.documents[:1]
    with pytest.raises(PolicyError, match=r"the step 'train' in .*, without spdx: \[signing\] attach"):
        flow.push()
    assert not proxy.take().requests
    flow.documents = documents
    assert flow.push() == 0


def test_a_promoted_flow_verifies_where_it_is_now(
    cosign: Flow, proxy: Proxy, capsys: pytest.CaptureFixture[str]
) -> None:
    flow = cosign
    flow.push()
    published, to = f"oci://{proxy.host}/ml/churn:churn_flow.images", f"{proxy.host}/prod/churn"
    asked = ["promote", f"--images={published}", f"--to={to}", f"--workspace={flow.root}"]
    capsys.readouterr()
    assert main([*asked, *flow.signer, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["signed"] == 1
    assert flow.verify(f"oci://{to}:churn_flow.images", "--expect=spdx") == 0
    assert "0 failed, 0 skipped" in capsys.readouterr().err
    # Who vouches for a map makes sure that it is the one that was pushed.
    client = Client(proxy.host)
    images = flow.record.read_bytes().replace(b'"flow"', b' "flow"')
    publish_images(client, "ml/churn", ["churn_flow.images"], images)
    with pytest.raises(PushError, match=r"is not promoted: .*is not signed by the key .* pass --no-sign"):
        main([*asked, f"--to={proxy.host}/prod/forged", *flow.signer])
    assert client.head_manifest("prod/forged", "churn_flow.images") is None
    # The policy holds for what is promoted, too.
    policy = flow.root / "mfbazel.toml"
    policy.write_text(SIGNING.replace("*/ml", "*/prod"))
    with pytest.raises(PolicyError, match=r"the step 'train' in .*/prod/churn, signed by cosign: not in .signing. sig"):
        main(asked)
    policy.write_text(SIGNING.replace("*/ml", "*/prod").replace("acme", "cosign"))
    with pytest.raises(PolicyError, match=r"the step 'train' in .*/prod/churn, unsigned: \[signing\] required"):
        main([*asked, "--no-referrers"])
    assert main([*asked, "--dry-run"]) == 0


def test_the_record_says_who_signed_and_what_is_attached_and_so_does_that_of_the_next_push(flow: Flow) -> None:
    def said() -> dict[str, tuple[str | None, list[str] | None]]:
        steps = json.loads(flow.record.read_text())["steps"]
        return {step: (entry.get("signed_by"), entry.get("attached")) for step, entry in steps.items()}

    flow.documents = [path for path in flow.documents if path.name != "train.spdx.json"]
    for _ in range(2):
        flow.push()
        assert said() == {"start": ("acme", ["spdx"]), "train": ("acme", None), "end": ("acme", ["spdx"])}
    flow.documents = []
    flow.push("--no-sign")
    assert set(said().values()) == {(None, None)}


def test_the_policy_says_nothing_of_other_registries(flow: Flow) -> None:
    (flow.root / "mfbazel.toml").write_text(SIGNING.replace("127.0.0.1:*/ml", "registry.example.com"))
    assert flow.push("--no-sign") == 0
