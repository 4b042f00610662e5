"""Actions of mfbazel's own fronts: they run in a persistent worker where Bazel has them, and start no Python each."""

def run_in_worker(ctx, arguments, **kwargs):
    """Declares an action of a front that can be a worker.

    Args:
        ctx: rule context.
        arguments: Args; they travel in a file.
        **kwargs: attributes of ctx.actions.run.
    """
    arguments.use_param_file("@%s", use_always = True)
    arguments.set_param_file_format("multiline")
    ctx.actions.run(
        arguments = [arguments],
        # No sandbox keeps a worker from writing byte code into the packages that it imports, which are outputs of other actions.
        env = {"PYTHONDONTWRITEBYTECODE": "1"},
        execution_requirements = {
            "requires-worker-protocol": "json",
            "supports-workers": "1",
        },
        **kwargs
    )
