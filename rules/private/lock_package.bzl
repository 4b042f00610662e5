"""Where the targets of a lock are in @mfbazel_locks."""

def lock_package(label):
    """Returns the package of a lock in @mfbazel_locks: the path of its directory in the workspace, without `.lock`.

    Args:
        label: Label of the flow, or of whatever the lock is named after.
    """
    return label.package + "/" + label.name if label.package else label.name
