"""An actor and a learner that are not in one process: the link between them, who starts whom, and several actors for one run."""
