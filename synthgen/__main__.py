"""How is the command line started where the command `synthgen` is not on the path? `python -m synthgen`."""

from synthgen.cli import main

if __name__ == "__main__":
    main()
