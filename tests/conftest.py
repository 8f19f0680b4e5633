"""What all tests share."""

import os

# Before anything imports helpers: the tests' outputs are those of the models in models/.
os.environ.setdefault("TUTORIAL_MODELS", "offline")
