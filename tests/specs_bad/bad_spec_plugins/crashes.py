"""A module that crashes as native code does."""

import os
import signal

os.kill(os.getpid(), signal.SIGSEGV)
