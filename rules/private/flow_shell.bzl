"""flow_shell: a shell in the image, or on the packages, of a step."""

load("@rules_python//python:defs.bzl", "py_binary")
load(":flow_command.bzl", "flow_command")

def flow_shell(name, flow, arguments, data, images, deps, tags, visibility):
    """Declares NAME, which opens a shell in the image of the step that it is told.

    It is manual: it needs all images, and nobody who builds everything waits for them.

    Args:
        name: name of the executable.
        flow: label of the flow.
        arguments: options of mfbazel.launch that describe the flow.
        data: the files that they name.
        images: the images of the flow.
        deps: first-party libraries of the flow.
        tags: tags of the flow.
        visibility: visibility of the executable.
    """
    layouts = "_{}.arguments".format(name)
    flow_command(
        name = layouts,
        command = "shell",
        images = images,
        tags = ["manual"] + tags,
        visibility = ["//visibility:private"],
    )
    py_binary(
        name = name,
        srcs = [Label("//mfbazel/container:__main__.py")],
        args = ["@$(rootpath {})".format(layouts)] + arguments,
        data = [layouts] + data,
        env = {"MFBAZEL_TARGET": flow + ".shell"},
        legacy_create_init = 0,
        main = Label("//mfbazel/container:__main__.py"),
        tags = ["manual"] + tags,
        visibility = visibility,
        deps = [Label("//mfbazel/container:lib"), Label("//mfbazel/extension")] + deps,
    )
