"""`python -m hf_llambert.cli`."""

from hf_llambert.cli import main

if __name__ == "__main__":
    main()
