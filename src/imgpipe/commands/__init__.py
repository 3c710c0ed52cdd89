"""The commands of ``imgpipe``, each in a module of its name, and the modules that they consist of."""
