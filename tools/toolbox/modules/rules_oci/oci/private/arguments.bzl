"""The arguments of an executable over one image, and the files that they name."""

def _image_arguments_impl(ctx):
    output = ctx.actions.declare_file(ctx.label.name + ".args")
    image = ctx.file.image
    lines = [word.replace("{image}", image.short_path) for word in ctx.attr.arguments]
    runfiles = ctx.runfiles([output, image]).merge(ctx.attr.image[DefaultInfo].default_runfiles)
    for target, option in ctx.attr.files.items():
        file = target.files.to_list()[0]
        lines += [option, file.short_path]
        runfiles = runfiles.merge(ctx.runfiles([file]))
    ctx.actions.write(output, "\n".join(lines) + "\n")
    return [DefaultInfo(files = depset([output]), runfiles = runfiles)]

image_arguments = rule(
    implementation = _image_arguments_impl,
    attrs = {
        "arguments": attr.string_list(doc = "Arguments; {image} stands for the layout directory."),
        "files": attr.label_keyed_string_dict(allow_files = True, doc = "Files to the options that introduce them."),
        "image": attr.label(mandatory = True, allow_single_file = True, doc = "The image."),
    },
)
