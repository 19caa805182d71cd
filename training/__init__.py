"""Training and evaluation of CLIP models on published dataset versions."""

import os

from training.model import lean_imports

# Threads that wait by spinning make every other process on the machine wait too: with one busy neighbour on two
# cores a training step of the `tiny` config took 8 s instead of 2.3 s. Read once, when OpenMP is loaded with torch.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

lean_imports.install()
