"""Compare MLServer and Ray Serve with a model of your own, from the command line.

    python -m helpers.compare my_model.py:MyModel --request request.json --latency-ms 200

Notebook 15 does the same step by step, and `helpers.own_report` is where the work begins. (The
function `helpers.compare` is that of `helpers.measure`: nothing imports this module.)
"""

import sys

from helpers.own_report import main

if __name__ == "__main__":
    sys.exit(main())
