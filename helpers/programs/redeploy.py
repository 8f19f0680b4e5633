"""Deploy config files on a Ray that runs, one after the other. Run by the servers' interpreter.

    python redeploy.py < PATHS

The Ray is the one that RAY_ADDRESS names. Each line of standard input is the path of a config file,
as for `serve deploy`, but without the dashboard that this would need. When its applications run, or
one of them cannot, prints a line of JSON: an empty text, or the reason. The first line, also an
empty text, says that it is connected.
"""

import json
import sys
import time
from pathlib import Path

import ray
import yaml
from ray import serve
from ray.serve.context import _get_global_client
from ray.serve.schema import ApplicationStatus, ServeDeploySchema

sys.path.pop(0)  # the folder of this file: a reader's own models.py must not be hidden by ours


def outcome() -> str:
    """Wait until all applications run, or one cannot."""
    while True:
        applications = serve.status().applications
        for name, application in applications.items():
            for deployment in application.deployments.values():
                # Serve goes on trying for minutes; the first exception says it all
                if "failed to start with exception" in deployment.message:
                    return f"application {name!r}: {deployment.message}"
            if application.status == ApplicationStatus.DEPLOY_FAILED:
                return f"application {name!r}: {application.message}"
        if all(a.status == ApplicationStatus.RUNNING for a in applications.values()):
            return ""
        time.sleep(0.05)


ray.init(namespace="serve", log_to_driver=False)
client = _get_global_client()
assert client
print(json.dumps(""), flush=True)
for path in sys.stdin:
    config = ServeDeploySchema.model_validate(yaml.safe_load(Path(path.strip()).read_text()))
    client.deploy_apps(config)
    print(json.dumps(outcome()), flush=True)
