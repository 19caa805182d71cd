"""Words and sentences: lexicon, dependency trees, phrases, edits."""
