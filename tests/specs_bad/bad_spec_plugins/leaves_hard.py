"""A module that ends the process in a way that no exception handler sees."""

import os

print("the licence server does not answer", flush=True)
os._exit(4)
