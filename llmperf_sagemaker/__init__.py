"""SageMaker targets."""
