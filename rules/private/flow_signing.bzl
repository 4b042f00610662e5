"""What a flow's attributes say of signatures and attached documents, as options of the commands that push and verify."""

_KINDS = ["spdx", "cyclonedx", "provenance"]

def signing_problem(label, attach, sign, sign_options):
    """Returns what is wrong with the attributes: they contradict themselves, or hold what must not be written down; "" where nothing is.

    Names of signers and of their options are checked where they are known: when the flow is pushed or verified.

    Args:
        label: of the flow.
        attach: kinds of documents.
        sign: name of a signer, or None.
        sign_options: its options.
    """
    for kind in attach:
        if kind not in _KINDS:
            return "{}: attribute `attach`: {} is none of {}".format(label, repr(kind), ", ".join([repr(known) for known in _KINDS]))
    if sign_options and not sign:
        return "{}: attribute `sign_options` is of a signer, and `sign` names none, for example \"cosign\"".format(label)
    for option, value in sign_options.items():
        if "-----BEGIN" in value or "\n" in value:
            return "{}: attribute `sign_options`: {} holds a key or another text of several lines; name the key instead: a file, \"env://VARIABLE\", or the address of a key service".format(label, repr(option))
    return ""

def signing_options(sign, sign_options):
    """Returns the options that name the signer, each one argument.

    Args:
        sign: name of a signer, or None.
        sign_options: its options.
    """
    if not sign:
        return []
    return ["--sign=" + sign] + ["--sign-option={}={}".format(name, value) for name, value in sign_options.items()]
