"""A scripted model server that speaks the four dialects of real model providers, on loopback."""
