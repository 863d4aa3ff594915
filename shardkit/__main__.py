"""`python -m shardkit`: the same as the command `shardkit`."""

from shardkit.cli import main

if __name__ == "__main__":
    main()
