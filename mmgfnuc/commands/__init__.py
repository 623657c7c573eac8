"""The mains of the console command `mmgfnuc` and of tools/*.py. Each imports what is heavy when it runs, not before."""
