"""How a flow is read."""

FlowReadingInfo = provider(
    doc = "How a flow is read.",
    fields = {
        "arguments": "Options of every command line that reads the flow, a list of strings.",
        "files": "Depset of all files that the options name, and the first-party files below them.",
    },
)
