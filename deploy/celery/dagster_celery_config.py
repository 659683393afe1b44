"""Settings of a Celery worker, found by dagster-celery under this name on PYTHONPATH.

Belongs here: what a worker needs beside its environment. Does not belong here: Dagster's side of it
(``deploy/dagster/celery.yaml``), or addresses, which are secrets.
"""

import os

broker_url = os.environ["GEOCAL_BROKER_URL"]
result_backend = os.environ["GEOCAL_RESULTS_URL"]
# A run is taken when it can begin, not before. With a prefetch of one a worker takes the next run
# while it is at one, and another worker stands idle: seen, for a minute in a backfill of four.
worker_prefetch_multiplier = 1
worker_disable_prefetch = True
# A process for each run: it has read the specifications and the code as they are now, and its
# memory goes back to the machine.
worker_max_tasks_per_child = 1
task_track_started = True
broker_transport_options = {"visibility_timeout": 86400}
# Only words and numbers cross the network, never pickled objects.
task_serializer = "json"
result_serializer = "json"
accept_content = ["json"]
broker_connection_retry_on_startup = True
