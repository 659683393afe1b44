"""Which targets pull against which, from dual values. Belongs here: words on multipliers. Does not belong here: LPs."""


def explain(result) -> tuple:
    """Findings."""
    return ()
