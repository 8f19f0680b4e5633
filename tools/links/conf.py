"""`make links`: Sphinx asks every address that the project's pages link to, once.

It reads the pages where they are, as a reader of the repository does. Whether links within the
repository lead somewhere is asked by tests/test_links.py and tests/test_site.py.
"""

import re

from tools.badges import slug

extensions = ["myst_nb"]
nb_execution_mode = "off"
root_doc = "README"
include_patterns = ["*.md", "models/*/*.md", "notebooks/*.ipynb", "site/*.md"]
exclude_patterns = [".*", "build", "notebooks/work"]  # Sphinx looks into all other folders
suppress_warnings = ["myst", "mystnb", "toc"]  # nobody reads these pages

linkcheck_timeout = 30
linkcheck_retries = 3
# Ourselves: by another name until the repository has one, and only there once it is pushed.
linkcheck_ignore = [rf"https://[\w.]+(/github)?/{re.escape(slug())}(?![\w-])"]
# There, a script makes the anchors of lines and headings, in the reader's browser.
linkcheck_anchors_ignore_for_url = [r"https://github\.com/"]
