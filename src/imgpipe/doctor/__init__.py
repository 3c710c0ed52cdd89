"""How the machine is, thing by thing, and what to do where it is wrong."""
