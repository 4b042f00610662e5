"""step_image: the image of one step, from the layers of one environment of a lock."""

load("@mfbazel_locks//:index.bzl", "LOCKS")
load(":image_options.bzl", "image_options", "options_files")
load(":image_support.bzl", "base_support", "files_support", "venv_support")
load(":lock_package.bzl", "lock_package")
load(":locked_image.bzl", "hidden_attributes", "locked_image", "platform_slug")

def _lock_entry(name, package, lock, environment, platforms):
    """Returns what is known of a lock; fails when it has no such environment or platform."""
    entry = LOCKS.get(package)
    if entry == None:
        fail("step_image {}: there is no lock {}.lock/flow.json. Make it with: bazel run {}.lock".format(name, package, lock))
    if "unusable" in entry:
        fail("step_image {}: it needs the lock {}.lock, {}. Make it anew with: bazel run {}.lock".format(name, package, entry["unusable"], lock))
    if environment not in entry["pythons"]:
        fail("step_image {}: environment = {} is not in {}.lock, which has {}".format(name, repr(environment), package, ", ".join(entry["pythons"])))
    for platform in platforms:
        if platform not in entry["platforms"]:
            fail("step_image {}: platforms = {} is not in {}.lock, which is for {}. Add it to `platforms` of {} and lock again".format(
                name,
                platforms,
                package,
                ", ".join(entry["platforms"]),
                lock,
            ))
    return entry

def step_image(
        name,
        lock,
        environment,
        base,
        platforms = [],
        code = [],
        tags = [],
        visibility = None,
        **options):
    """One container image with the packages of one environment of a lock, usable without a flow.

    Args:
        name: name of the image target.
        lock: the lock, named as its flow: `//examples/churn:churn_flow` for the directory `examples/churn/churn_flow.lock`.
        environment: name of the environment in the lock, which stands for the requirement lockfile `<environment>.txt`; of a flow's lock, the step.
        base: any OCI image target for Linux, with bash, tar, gzip and that Python. It is built for each of the platforms.
        platforms: platforms of the image, of those that the lock is for; default: all of them. Several make it an index.
        code: first-party py_library targets whose modules are installed beside the packages.
        tags: tags of the image target.
        visibility: visibility of the image target.
        **options: attributes that metaflow_flow has too: interpreter, files, env, labels, annotations, entrypoint, user, workdir, compression, compression_level, bytecode, stamp.

    Targets produced by this macro:
        NAME: the image, an OCI layout directory. NAME.<os>_<architecture>: of one platform, where it has several. What else it makes starts with an underscore.
    """
    label = native.package_relative_label(lock)
    package = lock_package(label)
    entry = _lock_entry(name, package, lock, environment, platforms)
    platforms = platforms or entry["platforms"]
    python = entry["pythons"][environment]
    options = image_options(**options)
    hidden = hidden_attributes(tags)
    interpreter = options.interpreter.format(python = python)
    venv = venv_support("_" + name, python, interpreter, False, options.files, code, options.workdir, hidden)
    support = {}
    for platform in platforms:
        prefix = "_{}.{}".format(name, platform_slug(platform))
        found = base_support(prefix, "//{}:{}".format(native.package_name(), name), base, platform, interpreter, hidden)
        support[platform] = struct(
            above = files_support(prefix, venv.above, platform, hidden),
            base = found.base,
            below = venv.below,
            checks = [found.check],
        )
    locked_image(
        name = name,
        attributes = options_files("_" + name, options, hidden),
        options = options,
        platforms = platforms,
        subject = struct(
            environment = environment,
            includes = [],
            label = "//{}:{}".format(native.package_name(), name),
            lock = label.same_package_label("{}.lock/flow.json".format(label.name)),
            package = package,
            steps = [],
        ),
        support = support,
        tags = tags,
        visibility = visibility,
    )
