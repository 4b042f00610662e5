"""Small actions by persistent workers: what most of their time goes to otherwise is the start of Python."""

# A request is JSON; where there are no workers (sandboxes, remote execution) the tool reads the same arguments from the file.
WORKER = {
    "requires-worker-protocol": "json",
    "supports-workers": "1",
}

def worker_arguments(ctx):
    """Returns Args for an action that a worker may do: all in a file, one per line.

    Args:
        ctx: rule context.
    """
    arguments = ctx.actions.args()
    arguments.use_param_file("@%s", use_always = True)
    arguments.set_param_file_format("multiline")
    return arguments
