"""image_layouts: images by an assembler that the test chooses, whichever the build has."""

def _assembler_impl(_settings, attr):
    return {"//rules:assembler": attr.assembler}

_assembler = transition(
    implementation = _assembler_impl,
    inputs = [],
    outputs = ["//rules:assembler"],
)

def _image_layouts_impl(ctx):
    layouts = {name: target[DefaultInfo].files.to_list()[0] for target, name in ctx.attr.images.items()}
    output = ctx.actions.declare_file(ctx.label.name + ".json")
    ctx.actions.write(output, json.encode_indent({name: layout.short_path for name, layout in layouts.items()}) + "\n")
    runfiles = ctx.runfiles([output] + layouts.values())
    return [DefaultInfo(
        files = depset([output]),
        runfiles = runfiles.merge_all([target[DefaultInfo].default_runfiles for target in ctx.attr.images]),
    )]

image_layouts = rule(
    implementation = _image_layouts_impl,
    doc = "NAME.json: image to the path of its OCI layout, relative to the workspace's directory in the runfiles tree.",
    attrs = {
        "assembler": attr.string(mandatory = True, values = ["native", "rules_oci"], doc = "The assembler."),
        "images": attr.label_keyed_string_dict(mandatory = True, cfg = _assembler, doc = "Image to the name that the test gives it."),
        "_allowlist_function_transition": attr.label(default = "@bazel_tools//tools/allowlists/function_transition_allowlist"),
    },
)
