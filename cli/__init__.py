"""The commands of `python -m pipeline`: each has `configure(parser)` and `run(arguments) -> exit code`.

They stand above the rest of the house, and so they alone in `pipeline/` may import `actors`.
"""
