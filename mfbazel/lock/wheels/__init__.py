"""What wheels tell of themselves, asked of an index with as few bytes as possible: sizes, modules, licences."""
