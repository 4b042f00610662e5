"""The module extension that finds the locks of the workspace and declares a repository for each wheel in them."""

load(":built_wheel_repository.bzl", "built_wheel_repository")
load(":first_party_wheel_repository.bzl", "first_party_wheel_repository")
load(":lock_repository.bzl", "lock_repository")
load(":policy_repository.bzl", "policy_repository", "read_policy")
load(":source_repository.bzl", "source_repository")
load(":wheel_repository.bzl", "wheel_repository")
load(":wheel_targets.bzl", "wheel_repository_name")

_SCHEMA = 1

# Never holds sources: not searched.
_SKIPPED = ["node_modules", "__pycache__"]

def _directory_name(name):
    return not name.startswith(".") and not name.startswith("bazel-") and name not in _SKIPPED

def _lock_directories(root):
    """Paths of all directories NAME.lock that hold a flow.json, below a workspace's root."""
    found = []
    level = [root]
    for _ in range(64):
        below = []
        for directory in level:
            for entry in directory.readdir():
                if not _directory_name(entry.basename) or not entry.is_dir:
                    continue
                if entry.basename.endswith(".lock"):
                    if entry.get_child("flow.json").exists:
                        found.append(entry)
                else:
                    below.append(entry)
        level = below
        if not level:
            break
    return found

def _read_lock(module_ctx, path):
    """Returns the text of a lock, its content, and, instead of these, why it cannot be used."""
    content = module_ctx.read(path, watch = "yes")
    lock = json.decode(content, default = None)
    if type(lock) != "dict":
        return None, None, "whose flow.json is not JSON (after a merge conflict?)"
    if lock.get("schema") != _SCHEMA:
        return None, None, "whose flow.json has the schema {}, and this mfbazel reads {}".format(lock.get("schema"), _SCHEMA)
    return content, lock, None

def _package_of(root, directory):
    return str(directory)[len(str(root)) + 1:].removesuffix(".lock")

def _wheel(lock, sha256):
    """What is known of a wheel: its entry in a lock, its build requirements, and, filled in later, its indexes."""
    data = lock["wheels"][sha256]
    requirements = {}
    environment = data.get("source", {}).get("requires")
    if environment:
        for hashes in lock["environments"][environment]["wheels"].values():
            requirements.update({requirement: None for requirement in hashes})
    return struct(data = data, indexes = {}, requirements = sorted(requirements))

def direct_url(source):
    """Says where a source came from, as direct_url.json does (PEP 610): empty for one of an index, and for a place of this machine.

    Args:
        source: `source` of a wheel in a lock.
    """
    if source["kind"] != "git" or source["url"].startswith(("file:", "/")):
        return ""
    vcs = {"commit_id": source["commit"], "vcs": "git"}
    if source.get("revision"):
        vcs["requested_revision"] = source["revision"]
    fields = {"url": source["url"], "vcs_info": vcs}
    if source.get("subdirectory"):
        fields["subdirectory"] = source["subdirectory"]
    return json.encode(fields)

def _declare_built_wheel(sha256, wheel, sources):
    """Declares the repository of a wheel that is built; enters the attributes of its source's repository into sources."""
    source = wheel.data["source"]
    if source["kind"] == "git":
        name = "src_{}_{}".format(source["commit"], hash(source["url"]) % (1 << 31))
        file = "source.tar"
    else:
        name = "src_" + source["sha256"]
        file = source["file"]
    sources.setdefault(name, dict(
        commit = source.get("commit", ""),
        distribution = wheel.data["name"],
        file = file,
        kind = source["kind"],
        index = dict(sorted(wheel.indexes.items())[:1]),
        sha256 = source.get("sha256", ""),
        url = source.get("url", ""),
        version = wheel.data["version"],
        wheel = sha256,
    ))
    built_wheel_repository(
        name = "whl_" + sha256,
        direct_url = direct_url(source),
        distribution = wheel.data["name"],
        file = wheel.data["file"],
        requirements = ["@whl_{}//:wheel".format(requirement) for requirement in wheel.requirements],
        sha256 = sha256,
        source = "@{}//:source".format(name),
        subdirectory = source.get("subdirectory", ""),
        version = wheel.data["version"],
    )

def _declare_first_party_wheel(key, wheel):
    """Declares the repository of a wheel that is a file or target of this workspace."""
    first_party_wheel_repository(
        name = wheel_repository_name(key),
        distribution = wheel.data["name"],
        sha256 = "" if wheel.data["source"]["kind"] == "label" else key,
        version = wheel.data["version"],
        wheel = "@@" + wheel.data["source"]["label"],
    )

def _locks_impl(module_ctx):
    contents = {}
    unusable = {}
    wheels = {}
    own = module_ctx.path(Label("//tools/python:python.lock/flow.json")).dirname

    # Bazel gives the path of a file of a package only: the root needs a BUILD file, which may be empty.
    root = module_ctx.path(Label("@@//:MODULE.bazel")).dirname

    policy = read_policy(module_ctx, root)

    # The packages of mfbazel itself, whichever workspace it is used in.
    directories = {"_mfbazel": own}
    for directory in _lock_directories(root):
        directories.setdefault(_package_of(root, directory), directory)
    for package, directory in sorted(directories.items()):
        content, lock, reason = _read_lock(module_ctx, directory.get_child("flow.json"))
        if reason:
            # Other flows have nothing to do with it, and its own target .lock must load.
            unusable[package] = reason
            continue
        contents[package] = content
        for environment in lock["environments"].values():
            for hashes in environment["wheels"].values():
                for sha256 in hashes:
                    wheel = wheels.setdefault(sha256, _wheel(lock, sha256))
                    index = environment.get("policy", {}).get("indexes", {}).get(wheel.data["name"])
                    if index in policy.indexes:
                        wheel.indexes[index] = policy.indexes[index]
    sources = {}
    for sha256, wheel in wheels.items():
        kind = wheel.data.get("source", {}).get("kind")
        if kind in ("file", "label"):
            _declare_first_party_wheel(sha256, wheel)
        elif kind:
            _declare_built_wheel(sha256, wheel, sources)
        else:
            wheel_repository(
                name = "whl_" + sha256,
                distribution = wheel.data["name"],
                file = wheel.data["file"],
                # Each of them has these bytes.
                index = dict(sorted(wheel.indexes.items())[:1]),
                sha256 = sha256,
                version = wheel.data["version"],
            )
    for name, attributes in sources.items():
        source_repository(name = name, **attributes)
    lock_repository(name = "mfbazel_locks", locks = contents, unusable = unusable)
    policy_repository(name = "mfbazel_policy", files = policy.files)
    return module_ctx.extension_metadata(reproducible = True)

locks = module_extension(
    implementation = _locks_impl,
    doc = """Reads every NAME.lock/flow.json of the workspace.

Declares one repository per wheel, whl_SHA256, fetched when something needs it, one per source that a wheel is built of, mfbazel_locks, which has the targets of each lock, and
mfbazel_policy, which has the workspace's mfbazel.toml. Adding a flow needs no edit of MODULE.bazel.""",
)
