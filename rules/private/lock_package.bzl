"""Where the targets of a lock are in @mfbazel_locks."""

def lock_package(label):
    """Returns the package of a lock in @mfbazel_locks: the path of its directory in the workspace, without `.lock`.

    Args:
        label: Label of the flow, or of whatever the lock is named after.
    """
    return label.package + "/" + label.name if label.package else label.name

def layers_target(environment, platform):
    """Returns the name of the target that has the layers of an environment, in the package of its lock.

    Args:
        environment: name of the environment.
        platform: as in `linux/amd64`.
    """
    return "{}.{}.layers".format(environment, platform.replace("/", "_"))
