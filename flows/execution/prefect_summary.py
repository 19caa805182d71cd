"""What a version changed against its parent, as Markdown for Prefect's pages."""

from __future__ import annotations

from data_manifests.errors import InputError
from data_manifests.manifest import Catalog, DatasetVersion, Manifest


def change_markdown(catalog: Catalog, manifest: Manifest) -> str:
    """Return a short summary of the difference to the parent version, or of a first version's counts."""
    title = f"## {manifest.name}@{manifest.version}\n\n"
    counts = manifest.body["counts"]
    try:
        old = catalog.open(manifest.parent_ref) if manifest.parent_ref else None
    except InputError:
        old = None  # it is elsewhere, or forgotten
    if old is None:
        return f"{title}{counts['samples']} samples, {counts['captions']} captions, {counts['negatives']} negatives.\n"
    from data_manifests.diff import diff_versions

    new = DatasetVersion(manifest, catalog.folder(manifest.name, manifest.version))
    diff = diff_versions(old, new)
    lines = [f"Against {old.ref}:", ""]
    parts = {
        "added": diff.num_added,
        "removed": diff.num_removed,
        "edited": diff.num_edited,
        "followed": diff.num_followed,
    }
    lines += [f"- {number} sample(s) {word}" for word, number in parts.items() if number]
    return title + "\n".join(lines) + f"\n\n`clipcurate diff {old.ref} {new.ref}` shows them.\n"
