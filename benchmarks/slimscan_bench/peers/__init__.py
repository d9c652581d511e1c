"""Other runtimes on the same files and the same machine, each in an environment and a process of its own."""
