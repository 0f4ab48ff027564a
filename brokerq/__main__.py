"""`python -m brokerq`: the command line."""

from brokerq.cli import main

if __name__ == "__main__":
    main()
