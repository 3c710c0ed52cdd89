"""What every stage runs: its command line, params.yaml read and checked, files written whole."""
