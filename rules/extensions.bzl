"""Module extensions of mfbazel."""

load("//rules/private:locks_extension.bzl", _locks = "locks")

locks = _locks
