"""Operation without watching: the schedule, the sensors, and what they tell.

Belongs here: what starts a run when nobody does, and what is told once it ended. Does not belong
here: jobs (``pipeline/jobs.py``), assets, or commands. Everything here is STOPPED until somebody
turns it on in the UI, and asks for a bounded number of runs whatever fails.
"""
