"""streamctl: one file per command. The only room that prints or exits."""
