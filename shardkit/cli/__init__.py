"""The command line of shardkit."""
