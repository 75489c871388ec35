"""What mkdocs cannot be told in mkdocs.yml: leave pages out of the navigation that this clone does not have."""

from pathlib import Path

DOCS = Path(__file__).parent


def on_config(config):
    """Drop pages that do not exist from the navigation, and say so."""
    config.nav = present(config.nav)
    return config


def present(entries):
    """Return the navigation's entries whose pages exist."""
    kept = []
    for entry in entries:
        ((title, target),) = entry.items()
        if isinstance(target, list):
            kept.append({title: present(target)})
        elif (DOCS / target).is_file():
            kept.append(entry)
        else:
            print(f"left out, since docs/{target} is not there: {title}")
    return kept
