"""``python -m pipeline.cli``: the command ``geocal`` where the script is not on the path.

Belongs here: the call. Does not belong here: commands (``app.py``).
"""

from pipeline.cli import main

if __name__ == "__main__":
    main()
