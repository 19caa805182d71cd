"""The contract between curation and training: sample, shards, manifest, difference."""
