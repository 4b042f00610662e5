"""The images of the steps of a flow: which image each step runs in, and each image once."""

load(":image_options.bzl", "options_files")
load(":image_support.bzl", "base_support", "files_support", "venv_support")
load(":locked_image.bzl", "hidden_attributes", "locked_image", "platform_image", "platform_slug")
load(":native_index.bzl", "native_index")
load(":platform_base.bzl", "platform_base")

_CONDITIONS = ["default", "gpu"]

def flow_step_images(name, package, lock, base, bases, images, code, options, tags, visibility):
    """Declares NAME.<step> for every step of a flow.

    Args:
        name: name of the flow.
        package: package of the lock in @mfbazel_locks.
        lock: what is known of the lock.
        base: the base image of steps for which `bases` says nothing.
        bases: base images by condition or step.
        images: images that steps take as they are.
        code: first-party py_library targets whose modules are installed beside the packages.
        options: what image_options returned.
        tags: tags of the image targets.
        visibility: visibility of the image targets.

    Returns:
        struct: `images`, dict of image to the steps that run in it; `foreign`, the steps whose image is not made from the lock;
        `includes`, dict of steps whose image is derived from another's to the steps that it is derived from;
        `platforms`, dict of steps whose image is an index to its platforms.
    """
    label = "//{}:{}".format(native.package_name(), name)
    _check_keys(label, "bases", bases, lock)
    _check_keys(label, "images", images, lock)
    foreign = {step: _image_of(step, images, lock) for step in lock["steps"] if _image_of(step, images, lock)}
    groups = _groups(label, lock, base, bases, foreign)
    result = {}
    hidden = hidden_attributes(tags)
    for step, image in foreign.items():
        _foreign_image("{}.{}".format(name, step), image, _platforms_of(label, step, lock), hidden, tags, visibility)
        result["{}.{}".format(name, step)] = [step]
    shared = _Shared(name, label, code, options, hidden)
    attributes = options_files("_" + name, options, hidden)
    for group in groups:
        first = group.steps[0]
        parent = _group_of(groups, group.base) if group.base in lock["steps"] else None
        locked_image(
            name = "{}.{}".format(name, first),
            attributes = attributes,
            derived_from = "{}.{}".format(name, parent.steps[0]) if parent else None,
            options = options,
            platforms = group.platforms,
            subject = struct(
                environment = lock["steps"][first],
                includes = [lock["steps"][step] for step in _ancestors(groups, group)],
                label = label,
                lock = name + ".lock/flow.json",
                package = package,
                steps = group.steps,
            ),
            support = {
                platform: _support(shared, name, label, lock["pythons"][lock["steps"][first]], group, parent, platform)
                for platform in group.platforms
            },
            tags = tags,
            visibility = visibility,
        )
        result["{}.{}".format(name, first)] = group.steps
        for other in group.steps[1:]:
            native.alias(name = "{}.{}".format(name, other), actual = "{}.{}".format(name, first), tags = tags, visibility = visibility)
    return struct(
        foreign = foreign.keys(),
        images = result,
        includes = {step: _ancestors(groups, group) for group in groups for step in group.steps if group.base in lock["steps"]},
        platforms = {step: group.platforms for group in groups for step in group.steps if len(group.platforms) > 1},
    )

def _foreign_image(name, image, platforms, hidden, tags, visibility):
    """An image that a step takes as it is, for the platforms of the step."""
    for platform in platforms:
        platform_base(name = "_{}.{}".format(name, platform_slug(platform)), actual = image, platform = platform, **hidden)
    taken = ["_{}.{}".format(name, platform_slug(platform)) for platform in platforms]
    if len(platforms) > 1:
        native_index(name = name, images = taken, tags = tags, visibility = visibility)
    else:
        native.alias(name = name, actual = taken[0], tags = tags, visibility = visibility)

def _check_keys(label, attribute, values, lock):
    for key in values:
        if key in _CONDITIONS and key in lock["steps"]:
            fail("{}: attribute `{}`: {} is a condition and also a step of the flow; rename the step".format(label, attribute, repr(key)))
        if key not in _CONDITIONS and key not in lock["steps"]:
            fail("{}: attribute `{}`: {} is neither a step of the flow ({}) nor one of {}".format(label, attribute, repr(key), ", ".join(lock["steps"]), ", ".join([repr(condition) for condition in _CONDITIONS])))

def _image_of(step, images, lock):
    """The image that a step takes as it is; None where its image is made from the lock. "default" is for steps without packages of their own."""
    if step in images:
        return images[step]
    if step in lock["gpu"] and "gpu" in images:
        return images["gpu"]
    return images.get("default") if step in lock["plain"] else None

def _base_of(step, base, bases, lock):
    if step in bases:
        return bases[step]
    if step in lock["gpu"] and "gpu" in bases:
        return bases["gpu"]
    return bases.get("default", base)

def _platforms_of(label, step, lock):
    asked = lock["asked"].get(step)
    if not asked:
        return lock["platforms"]
    if asked not in lock["platforms"]:
        fail("{}: step {} asks for {}, and the lock is for {}. Add it to `platforms` and lock again: bazel run {}.lock".format(label, step, asked, ", ".join(lock["platforms"]), label))
    return [asked]

def _groups(label, lock, base, bases, foreign):
    """Steps whose images are one: the same packages, base and platforms, and no disabled with another. In an order in which images come after those that they are derived from."""
    found = {}
    for step, environment in lock["steps"].items():
        if step in foreign:
            continue
        chosen = _base_of(step, base, bases, lock)
        if not chosen:
            fail("{}: step {} has no base image: set `base`, or `bases` with the key \"default\" or {}".format(label, step, repr(step)))
        platforms = _platforms_of(label, step, lock)
        disabled = step in lock["disabled"]
        key = repr((lock["equal"][environment], str(chosen), platforms, disabled))
        found.setdefault(key, struct(base = chosen, disabled = disabled, platforms = platforms, steps = [])).steps.append(step)
    groups = found.values()
    ordered = []
    for _ in groups:
        for group in groups:
            if group in ordered:
                continue
            if group.base not in lock["steps"] or _group_of(ordered, group.base):
                ordered.append(group)
    for group in groups:
        if group not in ordered:
            reason = "has an image that is not made from the lock: name that in `bases` instead" if group.base in foreign else "is derived from itself"
            fail("{}: attribute `bases`: the image of step {} is to be derived from that of step {}, which {}".format(label, group.steps[0], group.base, reason))
        parent = _group_of(groups, group.base) if group.base in lock["steps"] else None
        if parent and [platform for platform in group.platforms if platform not in parent.platforms]:
            fail("{}: attribute `bases`: the image of step {} is for {}, and that of step {}, its base, for {}".format(label, group.steps[0], ", ".join(group.platforms), group.base, ", ".join(parent.platforms)))
        if parent and lock["pythons"][lock["steps"][parent.steps[0]]] != lock["pythons"][lock["steps"][group.steps[0]]]:
            fail("{}: attribute `bases`: steps {} and {} have different Pythons: the image of one cannot be the base of the other".format(label, group.steps[0], group.base))
    return ordered

def _group_of(groups, step):
    for group in groups:
        if step in group.steps:
            return group
    return None

def _ancestors(groups, group):
    """The steps, one of each image, that the image of a group is derived from."""
    found = []
    for _ in groups:
        group = _group_of(groups, group.base)
        if not group:
            break
        found.append(group.steps[0])
    return found

def _Shared(name, label, code, options, hidden):
    """What images of a flow share; declared when the first of them needs it."""
    return struct(code = code, declared = {}, hidden = hidden, label = label, name = name, options = options)

def _once(shared, key, declare):
    if key not in shared.declared:
        shared.declared[key] = declare()
    return shared.declared[key]

def _support(shared, name, label, python, group, parent, platform):
    """What the image of a group needs besides its packages, on one platform."""
    slug = platform_slug(platform)
    prefix = "_{}.python{}{}".format(name, python, ".disabled" if group.disabled else "")
    interpreter = shared.options.interpreter.format(python = python)
    venv = _once(shared, prefix, lambda: venv_support(prefix, python, interpreter, group.disabled, shared.options.files, shared.code, shared.options.workdir, shared.hidden))
    files = "{}.{}".format(prefix, slug)
    above = _once(shared, files, lambda: files_support(files, venv.above, platform, shared.hidden))
    if parent:
        image = platform_image("{}.{}".format(name, parent.steps[0]), platform, parent.platforms)
        return struct(above = above, base = image, below = venv.below, checks = [])
    key = "{}.{}".format(files, str(group.base))
    number = len([known for known in shared.declared if known.startswith(files + ".")])
    base = _once(shared, key, lambda: base_support("{}.base{}".format(files, number), label, group.base, platform, interpreter, shared.hidden))
    return struct(above = above, base = base.base, below = venv.below, checks = [base.check])
