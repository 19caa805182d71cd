"""Knowledge graphs: compiling, querying, linking captions to concepts, and verbalising facts."""
