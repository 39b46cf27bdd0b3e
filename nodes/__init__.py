"""The nodes that come with streamcore. They use its public API only, as a plugin of your own does."""
