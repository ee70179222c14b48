"""Local targets: a real LLM on the CPU."""
