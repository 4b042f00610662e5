"""Public rules of mfbazel.

    load("@mfbazel//rules:defs.bzl", "metaflow_flow", "step_image")
"""

load("//rules/private:metaflow_flow.bzl", _metaflow_flow = "metaflow_flow")
load("//rules/private:step_image.bzl", _step_image = "step_image")

metaflow_flow = _metaflow_flow
step_image = _step_image
