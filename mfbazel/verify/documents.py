"""Whether the documents attached to an image count: they belong to it, agree with the lock, and are signed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from mfbazel.registry import Client
from mfbazel.sign import SignError, target
from mfbazel.sign.documents import IN_TOTO, KINDS, NAMES
from mfbazel.verify.attached import PROVENANCE, Attached, packages_of, read_attached, step_of
from mfbazel.verify.check import Outcome, Status
from mfbazel.verify.deployed import StepImage
from mfbazel.verify.image import Image
from mfbazel.verify.locked import difference
from mfbazel.verify.wish import Wish


@dataclass
class Documents:
    """The documents of one image; each is read once, however many steps have the image."""

    client: Client
    image: Image
    wish: Wish
    _attached: dict[str, list[Attached]] = field(default_factory=dict)
    _signers: dict[str, str | SignError] = field(default_factory=dict)

    def check(self, step: StepImage, kind: str) -> Outcome:
        """Check the documents of ``kind`` for a step: SBOMs of every platform, provenance of the whole image.

        Raises:
            RegistryError: the registry did not answer, or refused.
        """
        if step.step in self.wish.foreign:
            return Status.SKIPPED, "its image is not made from the lock"
        media_type = KINDS[kind]
        platforms: dict[str, list[str]] = {}
        for item in self.image.platforms:
            platforms.setdefault(item.descriptor.digest, []).append(item.name)
        if media_type == IN_TOTO:
            platforms = {self.image.top.digest: [item.name for item in self.image.platforms]}
        found = [self._one(step, media_type, digest, names) for digest, names in platforms.items()]
        failed = [text for status, text in found if status is Status.FAILED]
        return (
            (Status.FAILED, "; ".join(failed)) if failed else (Status.OK, "; ".join(dict.fromkeys(t for _, t in found)))
        )

    def _one(self, step: StepImage, media_type: str, digest: str, platforms: Sequence[str]) -> Outcome:
        """Look for a document that counts, of the manifest ``digest``."""
        where = f"{self.image.reference.repository}@{digest}"
        if digest not in self._attached:
            self._attached[digest] = read_attached(self.client, self.image.reference.path, digest)
        candidates = [item for item in self._attached[digest] if _concerns(item, media_type, step.step)]
        verdicts = [self._verdict(step, item, platforms) for item in candidates]
        good = [verdict.text for verdict in verdicts if not verdict.problem]
        if good:
            others = len(verdicts) - len(good)
            return Status.OK, good[0] + (f" (others that do not count: {others})" if others else "")
        if not candidates:
            text = f"{where} has no {NAMES[media_type]} document of the step {step.step}"
            return Status.FAILED, f"{text}. Push the flow with the attribute `attach`."
        problems = "; ".join(
            f"{item.digest}: {verdict.problem}" for item, verdict in zip(candidates, verdicts, strict=True)
        )
        text = f"{where} has no {NAMES[media_type]} document that counts: {problems}. Push the flow again"
        return Status.FAILED, f"{text}, and find out who attached what does not count."

    def _verdict(self, step: StepImage, item: Attached, platforms: Sequence[str]) -> _Verdict:
        """Say whether a document counts for a step."""
        if item.problem or item.document is None:
            return _Verdict(problem=item.problem)
        try:
            found = packages_of(item.document)
        except ValueError as error:
            return _Verdict(problem=str(error))
        text = f"{len(found)} packages"
        if self.wish.locked and step.step in self.wish.locked.steps:
            if unknown := [name for name in platforms if name not in self.wish.locked.platforms(step.step)]:
                names = ", ".join(name or "a platform that nobody names" for name in unknown)
                return _Verdict(problem=f"its image is for {names}, for which the step {step.step} is not locked")
            if differs := difference(found, self.wish.locked.packages(step.step, platforms)):
                return _Verdict(problem=f"it does not agree with the lock of the step {step.step}: it {differs}")
            text += ", as locked"
        if self.wish.signing:
            signer = self._signer(item.digest)
            if isinstance(signer, SignError):
                return _Verdict(problem=str(signer))
            text += f", signed by {signer}"
        return _Verdict(text)

    def _signer(self, digest: str) -> str | SignError:
        """Return who signed a referrer, or why nobody did who counts."""
        if digest not in self._signers:
            assert self.wish.signing
            try:
                aim = target(self.client, self.image.reference.path, digest)
                self._signers[digest] = self.wish.signing.signer.verify(aim)
            except SignError as error:
                self._signers[digest] = error
        return self._signers[digest]


def _concerns(item: Attached, media_type: str, step: str) -> bool:
    """Whether ``item`` may be what is looked for.

    Steps that share an image have provenance of their own, and statements of other things than provenance may be there.
    """
    if item.media_type not in (media_type, ""):
        return False
    if item.document is None or item.document.media_type != IN_TOTO:
        return True
    return item.document.content.get("predicateType") == PROVENANCE and step_of(item.document) in (step, "")


@dataclass(frozen=True)
class _Verdict:
    """Whether a document counts: it does without a ``problem``, and ``text`` says what it has."""

    text: str = ""
    problem: str = ""
