"""What runs in the subprocess that reads a flow.

Only the standard library, and Metaflow once the sandbox stands, are imported here; the package ``mfbazel`` is not. The
subprocess starts ``__main__.py`` as a script, which loads this package under a name of its own, so that nothing here
stands in the way of a flow's own modules.
"""
