"""Deploy config files on a Ray that runs, one after the other. Run by the servers' interpreter.

    python redeploy.py < PATHS

The Ray is the one that RAY_ADDRESS names. Each line of standard input is the path of a config file,
as for `serve deploy`, but without the dashboard that this would need. When its applications run, or
one of them cannot, prints a line of JSON: an empty text, or the reason. The first line, also an
empty text, says that it is connected.
"""

import json
import sys
from pathlib import Path

import ray
import yaml
from applications import outcome  # type: ignore[import-not-found]  # beside this file
from ray.serve.context import _get_global_client
from ray.serve.schema import ServeDeploySchema

sys.path.pop(0)  # the folder of this file: a reader's own models.py must not be hidden by ours


ray.init(namespace="serve", log_to_driver=False)
client = _get_global_client()
assert client
print(json.dumps(""), flush=True)
for path in sys.stdin:
    config = ServeDeploySchema.model_validate(yaml.safe_load(Path(path.strip()).read_text()))
    client.deploy_apps(config)
    print(json.dumps(outcome()), flush=True)
