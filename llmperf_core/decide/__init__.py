"""Decide what to deploy: filled by the study."""
