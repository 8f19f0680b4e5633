"""Whether the applications of the Ray that this process has joined run.

Imported by the programs beside it, which other interpreters run by their path.
"""

import time

from ray import serve
from ray.serve.schema import ApplicationStatus, DeploymentStatus


def outcome() -> str:
    """Return an empty text when all applications run, or why one cannot."""
    while True:
        applications = serve.status().applications
        for name, application in applications.items():
            for deployment in application.deployments.values():
                # Serve goes on trying for minutes; the first exception of a constructor is
                # what the reader needs to see.
                if (
                    deployment.status == DeploymentStatus.DEPLOY_FAILED
                    or "failed to start with exception" in deployment.message
                ):
                    return f"application {name!r}: {deployment.message}"
            if application.status == ApplicationStatus.DEPLOY_FAILED:
                return f"application {name!r}: {application.message}"
        if applications and all(
            a.status == ApplicationStatus.RUNNING for a in applications.values()
        ):
            return ""
        time.sleep(0.1)
