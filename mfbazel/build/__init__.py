"""Building wheels from sources: an sdist, or a commit of a git repository.

The build is that of PEP 517, with requirements that are given as wheels, no network, an environment of its own, and a
result that is the same on every machine for projects without compiled code.
"""
