"""Whether a model fits on an instance type, as far as the shapes of both are known."""

from llmperf_core.bringup import Finding
from llmperf_core.decide import Demand, Gpus, ModelShape, shape_of, will_it_fit
from llmperf_core.errors import UsageError
from llmperf_core.units import MIB
from llmperf_sagemaker.instances import instance_types

# Repositories of quantized weights say so in their names, and servers read it from their config.
_QUANTIZED = ("gptq", "awq")


def fit_findings(
    model: str | ModelShape,
    instance_type: str,
    *,
    quantize: str | None = None,
    gpus: int | None = None,
    demand: Demand | None = None,
) -> list[Finding]:
    """Return what speaks against a model on an instance type; nothing if it fits well.

    Args:
        model: its name, the path of its `config.json`, or its shape.
        instance_type: `ml.g5.2xlarge`, for one.
        quantize: as TGI's `--quantize`; None takes it from the model's name, else 16 bits.
        gpus: over how many it is spread; None takes all that there are.
        demand: what it is to hold at a time; None is one request of 2,048 tokens.

    Returns:
        One that refuses if it does not fit, or one that warns: it is tight, or not known.
    """
    name = "the model" if isinstance(model, ModelShape) else model
    instance = instance_types().get(instance_type)
    if instance is None:
        known = f"the GPUs of {instance_type} are not known"
        return [Finding(detail=f"{known}, so neither is whether {name} fits")]
    stored = quantize or next((kind for kind in _QUANTIZED if kind in name.lower()), "none")
    try:
        fit = will_it_fit(
            model if isinstance(model, ModelShape) else shape_of(model),
            stored,
            gpus=Gpus(count=gpus or instance.gpus, memory_bytes=instance.gpu_mib * MIB),
            demand=demand or Demand(),
        )
    except UsageError as error:
        return [Finding(detail=f"whether {name} fits on {instance_type} is not known: {error}")]
    if fit.answer == "yes":
        return []
    says = "does not fit" if fit.answer == "no" else "is tight"
    detail = (
        f"{name} {says} on {instance_type}: {fit.why} (its weights take "
        f"{fit.weights_bytes / 1e9:.1f} of the {fit.usable_bytes / 1e9:.1f} GB of each GPU)"
    )
    return [Finding(detail=detail, refused=fit.answer == "no")]
