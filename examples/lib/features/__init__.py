"""Features of a customer, derived the same way in every flow that predicts something about one.

A first-party library of another Bazel package: flows name it in `deps`, and import it by its path in the workspace. It
needs no third-party package, so that any step may use it.
"""

from examples.lib.features.derive import FEATURES, Customer, derive, matrix

__all__ = ["FEATURES", "Customer", "derive", "matrix"]
