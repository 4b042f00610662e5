"""What a wheel is to the rules that make layers of it."""

WheelInfo = provider(
    doc = "One wheel, as a lock names it.",
    fields = {
        "distribution": "string: the normalized name of the distribution.",
        "file": "File: the wheel under the file name that the index gave it.",
        "sha256": "string: the hash in the lock, 64 hexadecimal digits.",
        "version": "string: the version of the distribution.",
    },
)
