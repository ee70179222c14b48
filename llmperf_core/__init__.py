"""Measure LLM inference endpoints."""
