"""Jobs in this very process: for tests and for a debugger."""

import logging

from al_lab.core.errors import Interrupted
from al_lab.execution.job import Executor, Failure, Job, Progress, attempt

log = logging.getLogger(__name__)


class InlineExecutor(Executor):
    """Runs one job after the other here, without retries; a crash of a job is a crash of this process."""

    def _run(self, jobs: list[Job], progress: Progress) -> list[Failure]:
        failures = []
        for job in jobs:
            if job.devices > 1:
                log.warning(
                    "job %s asks for %d devices; the inline executor runs it as one process", job.name, job.devices
                )
            outcome = attempt(job)
            progress.poll([job])
            if outcome.get("interrupted"):
                raise Interrupted(outcome["reason"])  # the signal was meant for this very process
            if not outcome["ok"]:
                failures.append(Failure(job, 1, outcome["reason"], outcome["details"]))
        return failures
