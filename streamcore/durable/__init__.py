"""The store of a durable queue on LMDB: append, deliver, acknowledge, retain, replay; checked before it is opened."""
