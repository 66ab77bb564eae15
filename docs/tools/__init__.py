"""Makes the generated parts of these pages from the code."""
