"""The example flow: pushed, signed and attached with the options that NAME.push has, and verified against its lock."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.push_rig import Proxy, find_crane, serve_registry
from mfbazel.push.__main__ import main as push
from mfbazel.verify.cli import main as verify

OPTIONS = Path("tests/sign/churn_push.args")
DELIVERY = Path("tests/sign/churn_push/push.json")
LOCK = Path("examples/churn/churn_flow.lock/flow.json")


def test_who_pushes_several_flows_reads_the_same() -> None:
    delivery = json.loads(DELIVERY.read_text())
    assert (delivery["label"], delivery["sign"]) == ("//examples/churn:churn_flow", "acme")
    assert delivery["sign_options"] == {"key": "ACME_KEY"}
    assert [step for step, _ in delivery["layouts"]] == ["start", "prepare", "train", "evaluate", "report", "end"]
    attached = sorted(Path(line).name for line in OPTIONS.read_text().splitlines() if line.startswith("examples/"))
    assert sorted(Path(path).name for path in delivery["attach"]) == [
        name for name in attached if name.endswith(".json") and name != "images.json"
    ]


def test_the_example_is_pushed_and_verified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ACME_KEY", "a key of the team")
    for name in ("MFBAZEL_STATE_DIR", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    with serve_registry(find_crane(), tmp_path / "disk") as host, Proxy(host) as proxy:
        options = [f"@{OPTIONS}", f"--repository={proxy.host}/ml/churn", f"--workspace={tmp_path}"]
        assert push([*options, "--json"]) == 0
        # Four images: their SBOMs, provenance of each of the six steps, and images.json.
        flow = json.loads(capsys.readouterr().out)["flows"][0]
        assert (flow["attached"], flow["signed"]) == (10, 15)
        proxy.take()
        assert push(options) == 0
        assert [verb for verb, path in proxy.take().requests if "/ml/churn/" in path] == ["HEAD"] * 5
        capsys.readouterr()
        checked = [f"--label={flow['label']}", f"--workspace={tmp_path}", f"--lock={LOCK}"]
        checked += ["--sign=acme", "--sign-option=key=ACME_KEY", "--expect=spdx", "--expect=provenance"]
        assert verify(checked) == 0
        assert "39 checks passed, 0 failed, 0 skipped" in capsys.readouterr().err
        lock = json.loads(LOCK.read_text())
        train = next(step["environment"] for step in lock["flow"]["steps"] if step["name"] == "train")
        lock["environments"][train]["wheels"]["linux/amd64"].pop()
        (tmp_path / "flow.json").write_text(json.dumps(lock))
        assert verify([*checked, f"--lock={tmp_path / 'flow.json'}", "--json"]) == 1
        checks = json.loads(capsys.readouterr().out)["checks"]
        failed = {(check["step"], check["check"]) for check in checks if check["status"] == "failed"}
        assert failed == {("train", "lock"), ("train", "spdx"), ("train", "provenance")}
