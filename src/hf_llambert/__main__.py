"""`python -m hf_llambert`: the command line, where the command itself is not on the path."""

from hf_llambert.cli import main

if __name__ == "__main__":
    main()
