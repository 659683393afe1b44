"""``python -m pipeline.cli``: the command ``geocal`` where the script is not on the path."""

from pipeline.cli import main

if __name__ == "__main__":
    main()
