"""What a wheel is to the rules that make layers of it."""

WheelInfo = provider(
    doc = "One wheel, as a lock names it.",
    fields = {
        "direct_url": "string: where the wheel came from that no index has (PEP 610, JSON); empty for wheels of an index and of the workspace.",
        "distribution": "string: the normalized name of the distribution.",
        "file": "File: the wheel under the file name that the index gave it.",
        "sha256": "string: the hash in the lock, 64 hexadecimal digits.",
        "version": "string: the version of the distribution.",
    },
)
